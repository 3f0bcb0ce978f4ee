"""The service: its queue, its limits and its routes, without a socket."""

import asyncio
import json
import threading
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.main import get_command

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("uvicorn")

from asgi import Alive, ask, begin
from ridefense import RIDE, InputError, Median, Unchanged, classifiers
from ridefense.classifiers.preparing import input_of
from ridefense.cli.app import app
from ridefense.noise import check_seed
from ridefense.purifiers import load
from ridefense.serve import (
    Answer,
    Batcher,
    Limits,
    Metrics,
    Prediction,
    Refused,
    Served,
    secret_seed,
    service,
)

PATIENCE = 20.0
"""Seconds after which a test that waits has failed."""


def png(image, **options):
    file = BytesIO()
    image.save(file, format="PNG", **options)
    return file.getvalue()


def digit(level=200):
    image = Image.new("L", (28, 28))
    image.paste(level, (8, 8, 20, 20))
    return image


@pytest.fixture(scope="module")
def classifier():
    return classifiers.load("digits-cnn")


def served(classifier, purifier=None, seed=5):
    return Served(classifier, purifier or Median(3), input_of(classifier), seed)


class Gate:
    """Answers that are given once the gate is open; an answer tells the mean of its image.

    An image of NaN fails, with all of its batch.
    """

    def __init__(self):
        self.open, self.begun = threading.Event(), threading.Event()
        self.batches, self.abandoned = [], []

    def __call__(self, images, ids, abandoned):
        self.begun.set()
        assert self.open.wait(PATIENCE)
        self.batches.append(list(ids))
        self.abandoned.append(abandoned())
        if any(image.isnan().any() for image in images):
            raise RuntimeError("NaN")
        return [Answer((Prediction(0, "0", float(image.mean())),), False, 0) for image in images]

    async def began(self):
        assert await asyncio.get_running_loop().run_in_executor(None, self.begun.wait, PATIENCE)


def flat(level):
    return torch.full((1, 2, 2), float(level))


def probability(answer):
    return answer.predictions[0].probability


# --- The queue -----------------------------------------------------------------------------------


def batched(gate, test, **limits):
    async def whole():
        batcher = Batcher(gate, Limits(**limits), Metrics())
        batcher.start()
        try:
            return await asyncio.wait_for(test(batcher), PATIENCE)
        finally:
            gate.open.set()
            await batcher.stop()

    return asyncio.run(whole())


def test_images_that_wait_are_computed_together_and_answered_apart():
    gate = Gate()

    async def test(batcher):
        first = asyncio.ensure_future(batcher.submit(flat(0.5), "first"))
        await gate.began()
        rest = [asyncio.ensure_future(batcher.submit(flat(n / 8), str(n))) for n in range(8)]
        await asyncio.sleep(0)  # let them enter
        gate.open.set()
        return [probability(a) for a in await asyncio.gather(first, *rest)]

    assert batched(gate, test, batch=3) == [0.5, *(n / 8 for n in range(8))]
    assert gate.batches == [["first"], ["0", "1", "2"], ["3", "4", "5"], ["6", "7"]]


def test_an_image_that_fails_fails_alone():
    gate = Gate()
    gate.open.set()

    async def test(batcher):
        images = [flat(0.25), flat(float("nan")), flat(0.75)]
        jobs = [batcher.submit(image, str(n)) for n, image in enumerate(images)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    first, failed, last = batched(gate, test, batch=3, fill=PATIENCE)
    assert (probability(first), probability(last)) == (0.25, 0.75)
    assert isinstance(failed, RuntimeError)


def test_an_image_that_nobody_waits_for_is_left_out():
    gate = Gate()

    async def test(batcher):
        first = asyncio.ensure_future(batcher.submit(flat(0.5), "first"))
        await gate.began()
        jobs = [asyncio.ensure_future(batcher.submit(flat(n / 4), str(n))) for n in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        jobs[1].cancel()
        await asyncio.sleep(0)
        gate.open.set()
        return [probability(await job) for job in (jobs[0], jobs[2])]

    assert batched(gate, test, batch=3) == [0.0, 0.5]
    assert gate.batches == [["first"], ["0", "2"]]
    assert gate.abandoned == [True, False]  # so that a fit may end early


def test_a_batch_that_is_full_does_not_wait():
    gate = Gate()
    gate.open.set()

    async def test(batcher):
        return await asyncio.gather(*(batcher.submit(flat(1), str(n)) for n in range(4)))

    assert len(batched(gate, test, batch=2, fill=2 * PATIENCE)) == 4


# --- The model -----------------------------------------------------------------------------------


def test_an_answer_is_that_of_the_defended_classifier(classifier):
    ride = RIDE.preset("fast")
    asked = served(classifier, ride)
    images = [asked.prepared(png(digit(level)), 10_000) for level in (150, 250)]
    answers = asked.answer(images, ["a", "b"])
    direct = ride.behind(classifier)(torch.stack(images), ids=["a", "b"], seed=5).softmax(dim=1)
    for answer, expected in zip(answers, direct, strict=True):
        best = expected.topk(5)
        assert [p.number for p in answer.predictions] == best.indices.tolist()
        shown = torch.tensor([p.probability for p in answer.predictions])
        torch.testing.assert_close(shown, best.values, atol=1e-5, rtol=1e-4)
        assert (answer.collapsed, answer.refits) == (False, 0)


def test_the_noise_follows_from_the_seed_and_the_id(classifier):
    ride = RIDE.preset("fast")
    image = served(classifier).prepared(png(digit()), 10_000)

    def shown(seed, id):
        (answer,) = served(classifier, ride, seed).answer([image], [id])
        return [p.probability for p in answer.predictions]

    assert shown(1, "a") == shown(1, "a")
    assert shown(1, "a") != shown(1, "b")
    assert shown(1, "a") != shown(2, "a")


def test_a_collapse_is_told(classifier):
    class Grey:
        is_randomised = is_dynamic = differentiable = False

        def __call__(self, images, ids=None, seed=0):
            return images.mean(dim=(2, 3), keepdim=True).expand_as(images).clone()

    asked = served(classifier, Grey())
    image = asked.prepared(png(digit()), 10_000)
    assert asked.answer([image], ["a"])[0].collapsed
    assert not served(classifier, Unchanged()).answer([image], ["a"])[0].collapsed


def test_a_defence_inside_the_classifier_is_served(classifier):
    asked = served(classifier, load("activation-pruning"))
    image = asked.prepared(png(digit()), 10_000)
    (answer,) = asked.answer([image], ["a"])
    assert abs(sum(p.probability for p in answer.predictions) - 1) < 0.1


def bomb():
    """A PNG of 20,000 × 20,000 pixels in a few kilobytes."""
    return png(Image.new("1", (20_000, 20_000)))


UPLOADS = {
    "no image": (b"hello", 415),
    "a zip": (b"PK\x03\x04" + bytes(200), 415),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
    "16 bits": (png(Image.new("I;16", (28, 28))), 415),
    "cut off": (png(Image.effect_noise((28, 28), 90))[:-200], 400),
    "in colour": (png(Image.new("RGB", (28, 28), "red")), 400),
    "too slim": (png(Image.new("L", (1, 4_000_000 // 28))), 400),
    "too many pixels": (png(Image.new("L", (1001, 1000))), 413),
}


@pytest.mark.parametrize("kind", UPLOADS)
def test_an_upload_that_is_no_image_is_refused_in_one_line(classifier, kind):
    upload, status = UPLOADS[kind]
    with pytest.raises(Refused) as refused:
        served(classifier).prepared(upload, 1_000_000)
    assert refused.value.status == status
    assert len(str(refused.value).splitlines()) == 1


def test_a_decompression_bomb_is_refused_before_it_is_decoded(classifier, monkeypatch):
    def decoded(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr("ridefense.serve.model.opened", decoded)
    with pytest.raises(Refused) as refused:
        served(classifier).prepared(bomb(), 16_000_000)
    assert refused.value.status == 413


def test_images_are_brought_to_what_the_classifier_takes(classifier):
    takes = input_of(classifier)
    assert takes.shape == (1, 28, 28)
    assert takes.classes == tuple("0123456789")
    large = digit().resize((280, 280), Image.Resampling.NEAREST)
    for image in (digit(), digit().convert("RGB"), large, digit().convert("LA")):
        prepared = served(classifier).prepared(png(image), 100_000)
        assert prepared.shape == (1, 28, 28)
        assert prepared[0, 14, 14] == pytest.approx(200 / 255)
        assert prepared[0, 1, 1] == 0


# --- The routes ----------------------------------------------------------------------------------


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


# --- Settings ------------------------------------------------------------------------------------


def test_the_seed_is_random_or_that_of_the_environment():
    assert secret_seed({"RIDEFENSE_SEED": "17"}) == 17
    assert secret_seed({}) != secret_seed({})
    assert check_seed(secret_seed({})) > 2**64
    for wrong in ("", "-1", "12x", str(2**128), "²"):
        with pytest.raises(InputError, match="RIDEFENSE_SEED") as error:
            secret_seed({"RIDEFENSE_SEED": wrong})
        assert not wrong or wrong not in str(error.value).replace("2**128 - 1", "")


@pytest.mark.parametrize(
    "wrong", [{"requests": 0}, {"batch": 0}, {"timeout": 0}, {"upload": -1}, {"pixels": 0}]
)
def test_limits_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Limits(**wrong)


def test_a_classifier_that_does_not_say_its_size_is_refused(classifier):
    own = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 20 * 20, 4))
    named = classifiers.Classifier(
        classifiers.ARCHITECTURES["mnist-cnn"].normalisation,
        own,
        classifiers.Info(name="own", architecture="own", dataset=""),
    ).frozen()
    with pytest.raises(InputError, match="own"):
        input_of(named)
    takes = input_of(named, (20, 20))
    assert takes.shape == (3, 20, 20)
    assert takes.classes == ("0", "1", "2", "3")


# --- The Dockerfile ------------------------------------------------------------------------------


def test_the_dockerfile_copies_what_there_is_and_starts_the_command():
    root = Path(__file__).parents[1]
    lines = (root / "Dockerfile").read_text().splitlines()
    copied = [
        name
        for line in lines
        if line.startswith("COPY") and "--from" not in line
        for name in line.split()[1:-1]
    ]
    ignored = (root / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} <= set(ignored)
    assert all((root / name).exists() for name in copied)
    start = [
        word
        for kind in ("ENTRYPOINT ", "CMD ")
        for line in lines
        if line.startswith(kind)
        for word in json.loads(line.removeprefix(kind))
    ]
    assert start[:2] == ["ridefense", "serve"]
    get_command(app).commands["serve"].make_context("serve", start[2:])
