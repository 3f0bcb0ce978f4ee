"""Requests to an ASGI application without a socket: a test says what arrives, and when."""

import asyncio
import json
from dataclasses import dataclass, field


@dataclass
class Exchange:
    """One request and its response.

    Attributes:
        arriving: messages for the application: parts of the body, or that the client has gone.
        status, headers, body: of the response; status 0 until there is one.
    """

    arriving: asyncio.Queue = field(default_factory=asyncio.Queue)
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def send(self, body: bytes, more: bool = False) -> None:
        self.arriving.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self.arriving.put_nowait({"type": "http.disconnect"})

    @property
    def json(self):
        return json.loads(self.body)

    async def _send(self, message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")


def begin(app, path="/v1/classify", body=None, method="POST", headers=()):
    """The exchange and the task that carries it out; without a body it waits for `send`."""
    exchange = Exchange()
    if body is not None:
        exchange.send(body)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (name.lower().encode(), value.encode()) for name, value in dict(headers).items()
        ],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 50000),
    }
    return exchange, asyncio.ensure_future(app(scope, exchange.arriving.get, exchange._send))


async def ask(app, *arguments, **options) -> Exchange:
    """The exchange, carried out."""
    exchange, task = begin(app, *arguments, **options)
    await task
    return exchange


class Alive:
    """Runs an application's start and end: `async with Alive(app): …`"""

    def __init__(self, app) -> None:
        self.app = app

    async def __aenter__(self):
        self._context = self.app.router.lifespan_context(self.app)
        await self._context.__aenter__()

    async def __aexit__(self, *error):
        await self._context.__aexit__(*error)
