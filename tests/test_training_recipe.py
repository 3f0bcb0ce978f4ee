"""The recipe of training, against plain code: steps, rates, crops, and the order of the images."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from ridefense.classifiers import Classifier, Info, Recipe, training
from ridefense.images import MNIST

pytestmark = pytest.mark.slow


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
