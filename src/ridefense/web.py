"""A web application as a process of its own: its socket, its signals, its end."""

import logging
import math
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ridefense.errors import InputError
from ridefense.extras import package


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 takes a free one.

    Raises:
        InputError: where it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        told = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot listen on {host} port {port} ({told}); choose another host or port"
        ) from error


def address_of(listening: socket.socket) -> str:
    """The URL of a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve_until_stopped(
    make: Callable[[Callable[[], bool]], Any],
    listening: socket.socket,
    *,
    patience: float,
    extra: str,
    ready: Callable[[], None],
) -> None:
    """Run an ASGI application until SIGTERM or SIGINT, then end what it has begun, and return.

    Args:
        make: makes the application of a function that tells whether it is stopping.
        listening: of `listen`; it is closed at the end.
        patience: seconds that requests in progress have at the end.
        extra: that installs uvicorn.
        ready: called once requests are answered.
    """
    uvicorn: Any = package("uvicorn", extra)
    logging.basicConfig(format="%(levelname)s: %(message)s")

    class Server(uvicorn.Server):  # type: ignore[misc]  # uvicorn is loaded when it is used
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    server = Server(
        uvicorn.Config(
            make(lambda: bool(server.should_exit)),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=math.ceil(patience),
        )
    )
    with listening, _signals_kept():
        server.run(sockets=[listening])


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
