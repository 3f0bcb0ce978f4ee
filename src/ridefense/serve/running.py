"""A service as a process: its seed, its socket, its end."""

import logging
import math
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
import uvicorn

from ridefense.errors import InputError, check_whole
from ridefense.serve.http import service
from ridefense.serve.limits import Limits
from ridefense.serve.model import Served

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
    listening = _listen(host, port)
    address, bound = listening.getsockname()[:2]
    app = service(
        served,
        limits,
        stopping=lambda: server.should_exit,
        ready=lambda: say(
            f"ready at http://{f'[{address}]' if ':' in address else address}:{bound}"
        ),
    )
    logging.basicConfig(format="%(levelname)s: %(message)s")
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=math.ceil(limits.timeout) + 1,
        )
    )
    with listening, _signals_kept():
        server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        told = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot listen on {host} port {port} ({told}); choose another host or port"
        ) from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Let a signal that ended the server do nothing else: uvicorn raises it again when it ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
