"""Large images are purified in tiles."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from photos import levels
from ridefense import (
    RIDE,
    Purify,
    purify,
)
from ridefense.networks import NETWORKS
from ridefense.purification import tiles


@given(st.integers(1, 3000), st.sampled_from([128, 144, 256, 512]))
def test_tiles_cover_every_pixel_and_overlap(whole, side):
    found = tiles.spans(whole, side)
    assert (found[0].start, found[-1].start + found[-1].size) == (0, whole)
    total = torch.zeros(whole)
    for span in found:
        assert span.size < side + tiles.GRID
        assert span.start % tiles.GRID == 0
        total[span.slice] += span.weights
    assert (total > 0.1).all()
    for one, other in pairwise(found):
        assert one.start + one.size - other.start >= tiles.OVERLAP


@pytest.mark.parametrize("size", [(300, 421), (128, 700), (512, 257), (131, 131)])
@pytest.mark.parametrize("name", ["median:7", "jpeg:40", "blur:4", "bit-depth:2"])
def test_tiles_change_nothing_for_a_filter(size, name):
    image = levels(1, 3, *size, seed=3)[0].float() / 255
    found = Purify(name, tile=128).outcome(image)
    whole = Purify(name, tile=1024).outcome(image)
    assert whole.images[0].tiles == 1
    assert found.images[0].tiles == 1 if max(size) < 144 else found.images[0].tiles > 1
    assert torch.allclose(found.value, whole.value, atol=1e-6)


def test_every_tile_has_a_fit_and_noise_of_its_own():
    image = levels(1, 1, 128, 300)[0].float() / 255
    ride = RIDE(network=NETWORKS["mnist"], steps=1, rounds=1, samples=1, engine="eager")
    found = Purify(ride, tile=128).outcome(image)
    assert found.images[0].tiles == 4
    assert found.value.shape == image.shape
    # The first tile alone: its outer pixels are not blended with a neighbour's.
    left = ride(image[None, :, :, :128], ids=["0, tile 0 0"])[0]
    assert torch.allclose(found.value[..., :64], left[..., :64], atol=1e-6)
    assert not torch.allclose(found.value[..., 112:128], left[..., 112:128], atol=1e-6)


def test_what_looks_at_the_whole_image_is_given_it():
    image = levels(1, 1, 300, 300)[0].float() / 255
    seen = []

    def mine(images, ids=None, seed=0):
        seen.append(tuple(images.shape))
        return images.clone()

    purify(image, mine)
    purify(image, "resize-and-pad:0.5", tile=128)
    assert seen == [(1, 1, 300, 300)]
    assert Purify("resize-and-pad", tile=128).outcome(image).images[0].tiles == 1
