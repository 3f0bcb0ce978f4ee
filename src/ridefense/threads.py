"""How many threads compute.

PyTorch's sums depend, to rounding, on how many threads share them; what is to be the same on every
machine is therefore computed on one. The native engine gives each image to one thread, so that it
may use them all, whatever PyTorch does.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_lent: ContextVar[int | None] = ContextVar("_lent", default=None)


def available() -> int:
    """How many threads there are for work whose result does not depend on their number."""
    return _lent.get() or torch.get_num_threads()


def cores() -> int:
    """How many cores this process may use, however many threads PyTorch was given."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def single() -> Iterator[None]:
    """PyTorch computes on one thread within; `available` stays what it was.

    Not for two threads of a process at once: PyTorch has one number for all of them.
    """
    before = torch.get_num_threads()
    token = _lent.set(available())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _lent.reset(token)
