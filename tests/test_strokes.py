"""Strokes drawn at random, and the network that finds them."""

import pytest
import torch

from ridefense import InputError, strokes
from ridefense.denoisers import Strokes


def drawn(count, seed=7):
    return strokes.draw(count, torch.Generator().manual_seed(seed))


def test_every_image_has_ink_and_most_of_it_is_paper():
    images = drawn(64)
    assert images.shape == (64, 1, 28, 28)
    assert images.min() >= 0
    assert images.max() <= 1
    assert (images.flatten(1).amax(dim=1) > 0.5).all()
    assert images.flatten(1).median(dim=1).values.max() < 0.1
    assert torch.equal(images, drawn(64))


def test_training_learns_to_find_strokes_and_repeats_itself():
    losses = []
    network = strokes.train(steps=30, batch=16, progress=lambda *told: losses.append(told[2]))
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    again = strokes.train(steps=30, batch=16)
    for mine, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0])
def test_what_ships_removes_more_noise_than_any_blur(sigma):
    from ridefense import GaussianBlur

    clean = drawn(32)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    noisy = clean + sigma * noise
    blurred = [(GaussianBlur(s).raw(noisy) - clean).square().mean() for s in (0.5, 0.8, 1.2, 2.0)]
    assert (Strokes().raw(noisy) - clean).square().mean() < 0.7 * min(blurred)


def test_a_network_of_ones_own_is_used_and_recorded(tmp_path):
    from ridefense.describe import describe

    network = strokes.train(steps=2, batch=4)
    strokes.save_network(network, tmp_path / "own.safetensors")
    own = Strokes(strokes.load_network(tmp_path / "own.safetensors"))
    assert describe(own) != describe(Strokes())
    images = drawn(2)
    assert not torch.equal(own(images), Strokes()(images))


def test_colours_are_filtered_each_by_itself_and_the_input_stays():
    images = drawn(3).view(1, 3, 28, 28)
    before = images.clone()
    found = Strokes()(images)
    assert torch.equal(images, before)
    assert torch.allclose(found[:, 1:2], Strokes()(images[:, 1:2]), atol=1e-5)


def test_what_is_no_network_is_refused(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="bad"):
        strokes.load_network(tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match="missing"):
        strokes.load_network(tmp_path / "missing.safetensors")
    with pytest.raises(InputError, match="network is 3"):
        Strokes(3)
    with pytest.raises(InputError, match="even"):
        Strokes()(torch.rand(1, 1, 27, 28))
