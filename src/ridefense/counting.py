"""How often a defence is asked: purifications, forward and backward passes, image by image."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor


@dataclass
class Counts:
    """What was asked, summed over images.

    Attributes:
        purifications: runs of a purifier, or fits of an estimator.
        forwards: forward passes through a classifier, or through a model that is a defence.
        backwards: backward passes through it.
    """

    purifications: int = 0
    forwards: int = 0
    backwards: int = 0


_COUNTS: ContextVar[Counts | None] = ContextVar("counts", default=None)
_PURIFYING: ContextVar[bool] = ContextVar("purifying", default=False)


@contextmanager
def counting() -> Iterator[Counts]:
    """Counts of all that is asked inside, by this thread and by backward passes of what it asked.

    What is asked inside a nested block counts in that block alone.
    """
    counts = Counts()
    token = _COUNTS.set(counts)
    try:
        yield counts
    finally:
        _COUNTS.reset(token)


@contextmanager
def purification(images: int) -> Iterator[None]:
    """So many images are purified inside; what a purifier does with others is its own matter."""
    counts = _COUNTS.get()
    if counts is not None and not _PURIFYING.get():
        counts.purifications += images
    token = _PURIFYING.set(True)
    try:
        yield
    finally:
        _PURIFYING.reset(token)


def passed(logits: Tensor) -> None:
    """A forward pass gave these logits [N, classes]; its backward passes are counted, too."""
    counts = _COUNTS.get()
    if counts is None or _PURIFYING.get():
        return
    counts.forwards += len(logits)
    if logits.requires_grad:

        def backwards(gradient: Tensor) -> None:
            counts.backwards += len(gradient)

        logits.register_hook(backwards)  # type: ignore[no-untyped-call]  # PyTorch's
