"""Images drawn at random, and the networks that find them under noise."""

import pytest
import torch

from ridefense import GaussianBlur, InputError, drawings, drawn
from ridefense.denoisers import Leaves, Strokes

DENOISERS = {"strokes": Strokes, "leaves": Leaves}


def images(kind, count=32, seed=7):
    return drawn.RECIPES[kind].draw(count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", DENOISERS)
def test_drawings_lie_in_range_and_repeat_themselves(kind):
    found = images(kind)
    assert found.shape[:2] == (32, drawn.RECIPES[kind].channels)
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(found, images(kind))
    assert len(found.unique(dim=0)) == 32


def test_handwriting_has_ink_and_is_mostly_paper():
    found = images("strokes", 64)
    assert (found.flatten(1).amax(dim=1) > 0.5).all()
    assert found.flatten(1).median(dim=1).values.max() < 0.1


def test_leaves_are_flat_with_edges_as_photographs_are():
    found = images("leaves", 64)
    steps = (found[..., 1:] - found[..., :-1]).abs().flatten()
    # Of Gaussian differences the mean is 1.18 medians; edges make the tail heavier by far.
    assert steps.mean() > 3 * steps.median()


@pytest.mark.parametrize("kind", DENOISERS)
def test_training_learns_and_repeats_itself(kind):
    losses = []
    network = drawn.train(kind, steps=30, batch=16, progress=lambda *told: losses.append(told[2]))
    assert sum(losses[-5:]) < 0.98 * sum(losses[:5])
    again = drawn.train(kind, steps=30, batch=16)
    for mine, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("sigma", [0.25, 0.5])
@pytest.mark.parametrize("kind", DENOISERS)
def test_what_ships_removes_more_noise_than_any_blur(kind, sigma):
    clean = images(kind)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    noisy = clean + sigma * noise
    blurred = [(GaussianBlur(s).raw(noisy) - clean).square().mean() for s in (0.5, 0.8, 1.2, 2, 3)]
    assert (DENOISERS[kind]().raw(noisy) - clean).square().mean() < min(blurred)


def test_a_network_of_ones_own_is_used_and_recorded(tmp_path):
    from ridefense.describe import describe

    network = drawn.train("strokes", steps=2, batch=4)
    drawn.save_network(network, tmp_path / "own.safetensors")
    own = Strokes(drawn.load_network("strokes", tmp_path / "own.safetensors"))
    assert describe(own) != describe(Strokes())
    found = images("strokes", 2)
    assert not torch.equal(own(found), Strokes()(found))


def test_strokes_filters_each_channel_by_itself_and_the_input_stays():
    found = images("strokes", 3).view(1, 3, 28, 28)
    before = found.clone()
    filtered = Strokes()(found)
    assert torch.equal(found, before)
    assert torch.allclose(filtered[:, 1:2], Strokes()(found[:, 1:2]), atol=1e-5)


def test_drawings_have_other_sizes():
    random = torch.Generator().manual_seed(0)
    assert drawings.leaves(2, random, side=64).shape == (2, 3, 64, 64)
    assert drawings.strokes(2, random, side=40).shape == (2, 1, 40, 40)


def test_what_is_no_network_and_no_image_for_it_is_refused(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="bad"):
        drawn.load_network("strokes", tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match="missing"):
        drawn.load_network("leaves", tmp_path / "missing.safetensors")
    with pytest.raises(InputError, match="kind is 'trees'"):
        drawn.load_network("trees")
    with pytest.raises(InputError, match="network is 3"):
        Strokes(3)
    with pytest.raises(InputError, match="even"):
        Strokes()(torch.rand(1, 1, 27, 28))
    with pytest.raises(InputError, match="3 channels"):
        Leaves()(torch.rand(1, 1, 28, 28))
