"""The service's routes and limits, without a socket."""

import asyncio
import threading

import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("uvicorn")

from asgi import Alive, ask, begin
from ridefense import Median, classifiers
from ridefense.classifiers.preparing import input_of
from ridefense.serve import (
    Limits,
    Served,
    service,
)
from serving import PATIENCE, Gate, digit, png, served


@pytest.fixture(scope="module")
def classifier():
    return classifiers.load("digits-cnn")


class Gated(Served):
    """A service's model whose answers are a gate's."""

    def __init__(self, classifier, gate):
        super().__init__(classifier, Median(3), input_of(classifier), 0)
        self.answer = gate


def serving(classifier, test, **limits):
    gate = Gate()

    async def whole():
        app = service(Gated(classifier, gate), Limits(**limits))
        async with Alive(app):
            try:
                await asyncio.wait_for(test(app, gate), PATIENCE)
            finally:
                gate.open.set()

    asyncio.run(whole())


def test_more_requests_than_the_limit_are_told_when_to_come_back(classifier):
    async def test(app, gate):
        begun = [begin(app, body=png(digit(100 + n))) for n in range(2)]
        await gate.began()
        refused = await ask(app, body=png(digit()))
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "2 requests" in refused.json["error"]
        gate.open.set()
        for n, (exchange, task) in enumerate(begun):
            await task
            level = torch.tensor((100 + n) / 255) * 144 / 784
            assert exchange.status == 200
            told = exchange.json["predictions"][0]["probability"]
            assert told == pytest.approx(float(level), abs=1e-6)
        assert (await ask(app, body=png(digit()))).status == 200

    serving(classifier, test, requests=2)


def test_what_is_not_computed_in_time_is_504_and_leaves_room(classifier):
    async def test(app, gate):
        assert (await ask(app, body=png(digit()))).status == 504
        assert gate.begun.is_set()
        metrics = (await ask(app, "/metrics", method="GET")).body.decode()
        assert "ridefense_requests_in_progress 0.0" in metrics
        assert 'ridefense_requests_total{status="504"} 1.0' in metrics

    serving(classifier, test, requests=1, timeout=0.3)


def test_an_upload_that_does_not_arrive_in_time_is_408(classifier):
    async def test(app, _):
        exchange, task = begin(app)
        exchange.send(png(digit())[:20], more=True)
        await task
        assert exchange.status == 408

    serving(classifier, test, timeout=0.2)


def test_a_client_that_leaves_frees_its_place(classifier):
    async def test(app, gate):
        first, done = begin(app, body=png(digit()))
        await gate.began()
        first.leave()
        await done
        gate.open.set()
        assert (await ask(app, body=png(digit()))).status == 200

    serving(classifier, test, requests=1)


@pytest.mark.parametrize("declared", [True, False])
def test_too_large_an_upload_is_refused_before_all_of_it_is_read(classifier, declared):
    async def test(app, _):
        headers = {"content-length": "5000"} if declared else {}
        exchange, task = begin(app, headers=headers)
        exchange.send(bytes(1001), more=True)  # the rest never comes
        await task
        assert exchange.status == 413
        assert "1,000 bytes" in exchange.json["error"]

    serving(classifier, test, upload=1000)


def test_every_error_is_one_line_of_json(classifier):
    async def test(app, gate):
        gate.open.set()
        asked = {
            "empty": (ask(app, body=b""), 400),
            "a form": (ask(app, body=b"--x", headers={"content-type": "multipart/form-data"}), 415),
            "no route": (ask(app, "/v1/nothing", body=b""), 404),
            "method": (ask(app, body=b"", method="GET"), 405),
        }
        for kind, (exchange, status) in asked.items():
            found = await exchange
            assert found.status == status, kind
            assert list(found.json) == ["error"]
            assert "\n" not in found.json["error"]

    serving(classifier, test)


def test_a_failure_inside_is_500_without_its_details(classifier, caplog):
    async def test(app, gate):
        def fail(*_):
            raise RuntimeError("secret detail")

        app_failing = service(failing(classifier, fail))
        async with Alive(app_failing):
            found = await ask(app_failing, body=png(digit()))
        assert found.status == 500
        assert "secret" not in found.json["error"]
        assert "secret detail" in caplog.text

    def failing(classifier, compute):
        model = served(classifier)
        model.answer = compute
        return model

    serving(classifier, test)


def test_requests_keep_their_own_id_where_it_can_be_repeated(classifier):
    async def test(app, gate):
        gate.open.set()
        named = await ask(app, body=png(digit()), headers={"X-Request-ID": "order-17"})
        assert named.headers["x-request-id"] == "order-17"
        assert named.json["id"] != "order-17"  # a client must not choose the noise
        for odd in ("", "é", "x" * 129, "a\x01b"):
            found = await ask(app, body=png(digit()), headers={"X-Request-ID": odd})
            assert found.headers["x-request-id"] == found.json["id"]

    serving(classifier, test)


def test_it_is_ready_until_it_stops(classifier):
    stopping = threading.Event()
    app = service(served(classifier), stopping=stopping.is_set)

    async def status(path):
        return (await ask(app, path, method="GET")).status

    async def test():
        async with Alive(app):
            assert await status("/ready") == 200
            stopping.set()
            assert await status("/ready") == 503
            assert await status("/health") == 200

    asyncio.run(test())


def test_the_schema_describes_answers_and_errors(classifier):
    app = service(served(classifier))
    described = app.openapi()["paths"]["/v1/classify"]["post"]
    assert {"200", "400", "413", "415", "429", "504"} <= described["responses"].keys()
    assert described["requestBody"]["required"]
