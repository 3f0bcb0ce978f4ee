"""The service's routes: what is accepted, for how long, and what is answered."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from time import monotonic
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ridefense.errors import RideError
from ridefense.serve.batching import Batcher
from ridefense.serve.limits import Limits
from ridefense.serve.metrics import Metrics
from ridefense.serve.model import Answer, Prediction, Refused, Served

_log = logging.getLogger(__name__)

_DECODERS = 2
"""Threads that decode uploads, each with one decoded image in memory."""
_GONE = 499
"""Status of requests whose client has closed the connection; it is counted, and never sent."""
_TAG = 128  # characters of a client's own request id
_ERRORS = {
    400: "an image that cannot be decoded, or that the classifier does not take",
    408: "the upload has not arrived in time",
    413: "too many bytes or pixels",
    415: "no image in a format that is read, or one of more than 8 bits a channel",
    422: "the purifier or the classifier has refused the image",
    429: "too many requests in progress; see Retry-After",
    500: "an error inside the service",
    504: "not computed in time",
}


@dataclass(frozen=True)
class Reply:
    """The body of an answer.

    Attributes:
        id: of this answer; with the secret seed it decides the randomness.
        predictions: the likeliest classes, at most five, the likeliest first.
        collapsed: whether the purified image has lost the contrast or the colours of the image.
        refits: how often the image was fitted again after a collapse.
        milliseconds: from the request's arrival.
    """

    id: str
    predictions: tuple[Prediction, ...]
    collapsed: bool
    refits: int
    milliseconds: float


def service(
    served: Served,
    limits: Limits | None = None,
    *,
    metrics: Metrics | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """An ASGI application that classifies images.

    `POST /v1/classify` takes an image file as its body and returns a `Reply`. `GET /health` answers
    200 while the process lives, `GET /ready` 200 while images are computed and 503 otherwise,
    `GET /metrics` in Prometheus's text format. Every error is JSON: {"error": "one line"}.

    Args:
        served: the defended classifier.
        limits: of memory and time.
        metrics: where to count.
        stopping: whether the process is about to end, so that it is not ready any more.
    """
    limits = limits or Limits()
    metrics = metrics or Metrics()
    batcher = Batcher(served.answer, limits, metrics)
    decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
    desk = _Desk(served, limits, metrics, batcher, decoders)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.get_running_loop().run_in_executor(decoders, served.warm_up)
        batcher.start()
        try:
            yield
        finally:
            await batcher.stop()
            decoders.shutdown(wait=False)

    # The pages of documentation that FastAPI offers fetch scripts from elsewhere.
    app = FastAPI(title="ridefense", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.exception_handler(HTTPException)
    async def _http_error(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.post(
        "/v1/classify",
        response_model=Reply,
        responses={status: {"description": text} for status, text in _ERRORS.items()},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def classify(request: Request) -> Response:
        return await desk.classify(request)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready")
    async def readiness() -> JSONResponse:
        computing = batcher.running and not stopping()
        status = "ready" if computing else "not ready"
        return JSONResponse({"status": status}, 200 if computing else 503)

    @app.get("/metrics")
    async def told() -> Response:
        return Response(metrics.text(), media_type=metrics.content_type)

    return app


@dataclass
class _Desk:
    """Takes requests for a class and answers them."""

    served: Served
    limits: Limits
    metrics: Metrics
    batcher: Batcher
    decoders: ThreadPoolExecutor
    inside: int = 0
    """Requests that are accepted and not yet answered."""

    async def classify(self, request: Request) -> Response:
        began = monotonic()
        id = uuid4().hex
        headers = {"X-Request-ID": _tag(request) or id}
        if self.inside >= self.limits.requests:
            seconds = self.batcher.seconds_until_free(self.inside)
            text = f"{self.inside} requests are in progress; try again in {seconds} s"
            return self._refused(429, text, headers | {"Retry-After": str(seconds)})
        self._move(1)
        try:
            answer = await self._answer(request, id)
        except Refused as refused:
            return self._refused(refused.status, str(refused), headers)
        except RideError as error:
            return self._refused(422, str(error), headers)
        except ClientDisconnect:
            return self._refused(_GONE, "the client has closed the connection", headers)
        except Exception as error:
            _log.exception("request %s failed", id)
            return self._refused(500, f"{type(error).__name__} inside the service", headers)
        finally:
            self._move(-1)
        seconds_taken = monotonic() - began
        self.metrics.answered(answer, seconds_taken)
        self.metrics.requests.labels("200").inc()
        reply = Reply(
            id, answer.predictions, answer.collapsed, answer.refits, round(1000 * seconds_taken, 3)
        )
        return JSONResponse(asdict(reply), headers=headers)

    async def _answer(self, request: Request, id: str) -> Answer:
        """
        Raises:
            Refused, RideError: for what cannot be classified, or not in time.
            ClientDisconnect: where nobody waits for the answer any more.
        """
        status, what = 408, "the upload has not arrived"
        try:
            async with asyncio.timeout(self.limits.timeout):
                upload = await self._upload(request)
                status, what = 504, "the image is not classified"
                image = await asyncio.get_running_loop().run_in_executor(
                    self.decoders, self.served.prepared, upload, self.limits.pixels
                )
                del upload
                return await _while_connected(request, self.batcher.submit(image, id))
        except TimeoutError:
            raise Refused(status, f"{what} after {self.limits.timeout:g} s") from None

    async def _upload(self, request: Request) -> bytes:
        """The request's body."""
        most = self.limits.upload
        too_large = Refused(413, f"the upload is larger than {most:,} bytes; send a smaller image")
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise Refused(415, "the upload is a form; send the image file itself as the body")
        if int(request.headers.get("content-length", 0)) > most:
            raise too_large
        found = bytearray()
        async for chunk in request.stream():
            found += chunk
            if len(found) > most:
                raise too_large
        if not found:
            raise Refused(400, "the upload is empty; send an image file as the body")
        return bytes(found)

    def _refused(self, status: int, text: str, headers: dict[str, str]) -> JSONResponse:
        self.metrics.requests.labels(str(status)).inc()
        return JSONResponse({"error": text}, status, headers)

    def _move(self, requests: int) -> None:
        self.inside += requests
        self.metrics.in_progress.set(self.inside)


def _tag(request: Request) -> str | None:
    """The client's own id of a request; None where there is none, or none to be repeated."""
    tag = request.headers.get("x-request-id", "")
    return tag if 0 < len(tag) <= _TAG and tag.isascii() and tag.isprintable() else None


async def _while_connected(request: Request, answer: Coroutine[None, None, Answer]) -> Answer:
    """The answer; it is given up where the client closes the connection."""
    computed = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({computed, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not computed.done():
            raise ClientDisconnect
        return computed.result()
    finally:
        computed.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
