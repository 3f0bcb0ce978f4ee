"""Images of one pixel, row or column, and one image alone: a right value or one line."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ridefense import DAE, DIP, IDIP, RIDE, Defended, Median, rivals
from ridefense.attacks import APGD, FGSM, PGD, Square
from ridefense.denoisers import ContrastBlur, NonLocalMeans, OrientedLines
from ridefense.errors import InputError
from ridefense.filters import GaussianBlur, TVBregman, TVChambolle, Unchanged

PURIFIERS = [
    *(Unchanged(), Median(3), GaussianBlur(0.3), TVChambolle(), TVBregman()),
    *(NonLocalMeans(), OrientedLines(), ContrastBlur()),
    *(rivals.JPEG(), rivals.BitDepth(), rivals.TVMinimisation(steps=5)),
    *(rivals.PixelDeflection(deflections=5), rivals.Wavelet(), rivals.ResizeAndPad()),
    *(
        replace(made.preset("fast", network=network), steps=1, engine="eager", **rounds)
        for made, rounds in ((RIDE, {"rounds": 1}), (DAE, {}), (IDIP, {"rounds": 1}), (DIP, {}))
        for network in ("mnist", "cifar10")
    ),
]
SHAPES = st.tuples(st.sampled_from([1, 3]), st.integers(1, 4), st.integers(1, 4))


@pytest.mark.parametrize("purify", PURIFIERS, ids=lambda p: p.name)
@settings(max_examples=8)
@given(shape=SHAPES, count=st.integers(1, 2), level=st.none() | st.sampled_from([0.0, 1.0]))
def test_purifiers_take_or_refuse_small_images(purify, shape, count, level):
    images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))
    images = images if level is None else images.fill_(level)
    try:
        found = purify(images)
    except InputError as error:
        message = str(error)
        assert "\n" not in message
    else:
        assert found.shape == images.shape
        assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize("purify", [NonLocalMeans(), TVChambolle(), TVBregman()])
def test_filters_of_scikit_image_keep_the_axes_of_grey_images(purify):
    step = torch.zeros(1, 1, 8, 12)
    step[..., 4:] = 1
    found = purify(step)
    assert found.shape == step.shape
    assert found[..., :3].max() < found[..., 5:].min()


@pytest.mark.parametrize("channels", [1, 3])
def test_bregman_smooths_images_of_one_row_as_of_one_column(channels):
    row = torch.rand(2, channels, 1, 64, generator=torch.Generator().manual_seed(0))
    found, column = TVBregman(2.0)(row), TVBregman(2.0)(row.transpose(2, 3).contiguous())
    torch.testing.assert_close(found, column.transpose(2, 3))
    assert 0 < found.diff(dim=3).abs().sum() < 0.5 * row.diff(dim=3).abs().sum()
    assert (found.mean() - row.mean()).abs() < 0.02
    level = torch.full((1, channels, 1, 5), 0.25)
    assert (TVBregman()(level) - level).abs().max() < 0.01


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 9, 1), (3, 2, 2)])
@pytest.mark.parametrize("make", [FGSM, PGD, APGD, Square])
def test_attacks_take_or_refuse_small_images(make, shape, norm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 5))
    images = torch.rand(1, *shape)
    few = {Square: {"queries": 10}, APGD: {"steps": 3}}.get(make, {})
    attack = make(eps=0.1, norm=norm, **few)
    try:
        found = attack(Defended(model, Unchanged()), images, model(images).argmax(1))
    except InputError as error:
        message = str(error)
        assert "\n" not in message
        assert str(list(shape)) in message
    else:
        length = torch.linalg.vector_norm(found - images, torch.inf if norm == "Linf" else 2)
        assert length <= 0.1 + 1e-5
