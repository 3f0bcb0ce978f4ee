"""What counts as images: float pixels in [0, 1] of a shape that the network takes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ridefense import RIDE, InputError, Median, RideError
from ridefense.images import IMAGENET, MNIST, check_images

GOOD = torch.full((2, 1, 4, 4), 0.5)


def with_pixel(value):
    images = GOOD.clone()
    images[1, 0, 2, 3] = value
    return images


@pytest.mark.parametrize(
    ("images", "value", "remedy"),
    [
        (np.zeros((1, 1, 4, 4)), "ndarray", "torch.Tensor"),
        ([[0.5]], "list", "torch.Tensor"),
        (None, "NoneType", "torch.Tensor"),
        ((GOOD * 255).to(torch.uint8), "torch.uint8", "/ 255"),
        (GOOD.to(torch.complex64), "torch.complex64", "float"),
        (GOOD > 0, "torch.bool", "float"),
        (GOOD[0], "(1, 4, 4)", "[N, C, H, W]"),
        (GOOD[None], "(1, 2, 1, 4, 4)", "[N, C, H, W]"),
        (GOOD[:0], "(0, 1, 4, 4)", "at least one"),
        (GOOD[..., :0], "(2, 1, 4, 0)", "at least one"),
        (with_pixel(torch.nan), "NaN", "clean"),
        (with_pixel(torch.inf), "infinity", "clean"),
        (with_pixel(-torch.inf), "infinity", "clean"),
        (with_pixel(-0.01), "-0.01", "clamp"),
        (with_pixel(1.01), "1.01", "clamp"),
        (with_pixel(1 + 2e-7), "1.0000002", "clamp"),
        (GOOD * 255, "127.5", "scale"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_images_are_refused_in_one_line(images, value, remedy):
    for refuse in (check_images, Median()):
        with pytest.raises(InputError) as caught:
            refuse(images)
        message = str(caught.value)
        assert value in message
        assert remedy in message
        assert "\n" not in message
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, RideError)


@given(
    st.tuples(*[st.integers(1, 4)] * 4),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.floats(0, 1),
)
def test_good_images_pass(shape, dtype, value):
    check_images(torch.full(shape, value, dtype=dtype))
    check_images(torch.full(shape, value, dtype=dtype, requires_grad=True))


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.1, 1 + 2**-52, "[0.1, 1.0000000000000002]"), (-1e-9, 0.99999, "[-1e-09, 1]"),
     (-1 / 3, 2 / 3, "[-0.3333, 0.6667]")],
)  # fmt: skip
def test_the_bound_that_offends_is_seen(low, high, shown):
    images = GOOD.double()
    images[0, 0, 0, 0], images[1, 0, 0, 0] = low, high
    with pytest.raises(InputError) as caught:
        check_images(images)
    assert f"images lie in {shown}; scale" in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "network", "told"),
    [
        ((2, 28, 28, 1), "mnist", "(2, 28, 28, 1), with the channels last; pass images.permute(0,"),
        ((2, 32, 32, 3), "cifar10", "pass images.permute(0, 3, 1, 2)"),
        ((2, 1, 28, 28), "cifar10", "images have 1 channels, the network 3"),
        ((2, 1, 28, 28), "cifar10", "mnist takes 1 channel"),
        ((2, 3, 28, 28), "mnist", "cifar10 and imagenet 3"),
    ],
)
def test_images_of_another_network_are_told_the_remedy(shape, network, told):
    with pytest.raises(InputError) as caught:
        RIDE.preset("fast", network=network)(torch.full(shape, 0.5))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_normalisation_round_trip(pictures):
    images = pictures(2, 3)
    normalised = IMAGENET.normalise(images)
    assert normalised[0, 2, 0, 0].item() == pytest.approx(
        (images[0, 2, 0, 0].item() - 0.406) / 0.225
    )
    torch.testing.assert_close(IMAGENET.denormalise(normalised), images)
    assert MNIST.sigma(0.5) == (0.15405,)
