"""The service as a process, and its secret seed."""

import os
import secrets
import warnings
from collections.abc import Callable, Mapping

import torch

from ridefense.errors import CollapseWarning, InputError, check_whole
from ridefense.serve.http import service
from ridefense.serve.limits import Limits
from ridefense.serve.model import Served
from ridefense.web import address_of, listen, serve_until_stopped

SEED_VARIABLE = "RIDEFENSE_SEED"
"""The environment variable of the secret seed."""


def secret_seed(environment: Mapping[str, str] = os.environ) -> int:
    """The seed of `RIDEFENSE_SEED`, or 128 random bits where that is not set.

    Raises:
        InputError: where it is no seed. The message does not show it.
    """
    text = environment.get(SEED_VARIABLE)
    if text is None:
        return secrets.randbits(128)
    if not (text.isdecimal() and text.isascii() and len(text) < 40 and int(text) < 2**128):
        raise InputError(f"{SEED_VARIABLE} is no whole number from 0 to 2**128 - 1; correct it")
    return int(text)


def run(
    served: Served,
    limits: Limits,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Serve until SIGTERM or SIGINT; then answer the requests that were accepted, and return.

    Args:
        served: the defended classifier.
        limits: of memory and time.
        host: the address to listen on.
        port: of that address; 0 takes a free one.
        threads: that compute; by default PyTorch's number.
        say: is told the address once the service is ready.

    Raises:
        InputError: where it cannot listen there.
    """
    if threads is not None:
        check_whole("threads", threads, 1)
        torch.set_num_threads(threads)
    warnings.simplefilter("ignore", CollapseWarning)  # answers and metrics tell
    listening = listen(host, port)
    address = address_of(listening)
    serve_until_stopped(
        lambda stopping: service(served, limits, stopping=stopping),
        listening,
        patience=limits.timeout + 1,
        extra="serve",
        ready=lambda: say(f"ready at {address}"),
    )
