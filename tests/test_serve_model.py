"""The service's model: uploads, answers, settings; and its Dockerfile."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.main import get_command

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("uvicorn")

from ridefense import RIDE, InputError, Unchanged, classifiers
from ridefense.classifiers.preparing import input_of
from ridefense.cli.app import app
from ridefense.noise import check_seed
from ridefense.purifiers import load
from ridefense.serve import (
    Limits,
    Refused,
    secret_seed,
)
from serving import digit, png, served


@pytest.fixture(scope="module")
def classifier():
    return classifiers.load("digits-cnn")


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
