import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.restoration import denoise_tv_bregman, denoise_tv_chambolle

from ridefense import GaussianBlur, InputError, Median, TVBregman, TVChambolle, Unchanged

FILTERS = [Unchanged(), Median(3), Median(5), GaussianBlur(0.7), TVChambolle(0.1), TVBregman(5.0)]
each_filter = pytest.mark.parametrize("purify", FILTERS, ids=lambda f: f"{f.name}")
shapes = st.tuples(
    st.integers(1, 3), st.sampled_from([1, 3]), st.integers(5, 12), st.integers(5, 12)
)


def picture(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def expect(images, function):
    """`function` on every image [C, H, W] as an array."""
    return torch.from_numpy(np.stack([function(image) for image in images.numpy()]))


@given(shapes, st.sampled_from([1, 3, 5, 7, 9, 11]))
def test_median_is_scipys_with_a_border_of_zeros(shape, kernel):
    images = picture(shape)
    expected = expect(
        images, lambda a: ndimage.median_filter(a, (1, kernel, kernel), mode="constant", cval=0)
    )
    assert torch.equal(Median(kernel)(images), expected)


@given(shapes, st.sampled_from([0.3, 0.7, 1.0, 1.3]))
def test_blur_is_scipys_with_a_mirrored_border(shape, sigma):
    radius = max(1, round(3 * sigma))
    images = picture(shape)
    expected = expect(
        images,
        lambda a: ndimage.gaussian_filter(a, (0, sigma, sigma), mode="mirror", radius=radius),
    )
    torch.testing.assert_close(GaussianBlur(sigma)(images), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("weight", [0.05, 0.5])
@pytest.mark.parametrize("channels", [1, 3])
def test_chambolle_is_scikit_images(weight, channels):
    images = picture((2, channels, 9, 11))
    expected = expect(
        images, lambda a: denoise_tv_chambolle(a.astype(np.float32), weight, channel_axis=0)
    )
    got = TVChambolle(weight)(images)
    torch.testing.assert_close(got, expected.clamp(0, 1), check_dtype=False, rtol=0, atol=1e-6)
    assert got.std() < images.std()


@pytest.mark.parametrize("weight", [0.5, 5.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_bregman_is_scikit_images(weight, channels):
    def denoised(array):
        array = array.astype(np.float32)
        if channels == 1:
            return denoise_tv_bregman(array[0], weight)[None]
        return denoise_tv_bregman(array, weight, channel_axis=0)

    images = picture((2, channels, 9, 11))
    expected, got = expect(images, denoised), TVBregman(weight)(images)
    assert got.shape == images.shape
    torch.testing.assert_close(got, expected.clamp(0, 1), check_dtype=False, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_filters_take_images_of_one_column(channels):
    images = picture((2, channels, 9, 1))
    for chosen in (Median(3), TVChambolle(0.1), TVBregman(5.0)):
        assert chosen(images).shape == images.shape


def test_weights_run_as_the_docstrings_say():
    images = picture((1, 3, 16, 16))
    assert TVChambolle(1.0)(images).std() < TVChambolle(0.05)(images).std()
    assert TVBregman(0.5)(images).std() < TVBregman(20.0)(images).std()


@each_filter
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_same_shape_dtype_range_and_an_input_left_alone(purify, dtype):
    images = picture((2, 3, 8, 7)).to(dtype)
    before = images.clone()
    purified = purify(images)
    assert purified.shape == images.shape
    assert purified.dtype == dtype
    assert purified.min() >= 0
    assert purified.max() <= 1
    assert torch.equal(images, before)
    assert purified.data_ptr() != images.data_ptr()
    if purify != Unchanged():
        assert not torch.equal(purified, images)
    reference = purify(images.double())
    assert (purified.double() - reference).abs().max() < 4 * torch.finfo(dtype).eps + 1e-6


@each_filter
def test_neither_seed_nor_company_matters(purify):
    images = picture((3, 1, 8, 8))
    together = purify(images, ids=[5, 6, 7], seed=9)
    alone = torch.cat([purify(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    assert not purify.is_randomised
    with torch.inference_mode():
        assert torch.equal(purify(images), together)
    assert torch.equal(pickle.loads(pickle.dumps(purify))(images), together)


@pytest.mark.parametrize("purify", [f for f in FILTERS if f.differentiable], ids=lambda f: f.name)
def test_derivative_of_what_says_it_has_one(purify):
    assert torch.autograd.gradcheck(purify, picture((1, 1, 5, 6)).requires_grad_())


@pytest.mark.parametrize("purify", [f for f in FILTERS if not f.differentiable])
def test_no_derivative_of_what_says_it_has_none(purify):
    assert not purify(picture((1, 1, 5, 6)).requires_grad_()).requires_grad


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Median(4), "kernel is 4; use an odd"),
        (lambda: Median(0), "kernel is 0"),
        (lambda: Median(-3), "kernel is -3"),
        (lambda: Median(3.0), "kernel is 3.0"),
        (lambda: GaussianBlur(0), "sigma is 0"),
        (lambda: GaussianBlur(float("nan")), "sigma is nan"),
        (lambda: GaussianBlur(float("inf")), "sigma is inf"),
        (lambda: GaussianBlur(3.0)(picture((1, 1, 8, 8))), r"sigma is 3.0 for images \(1, 1"),
        (lambda: TVChambolle(0), "weight is 0"),
        (lambda: TVBregman(-1.0), "weight is -1"),
        (lambda: TVBregman(float("inf")), "weight is inf"),
    ],
)
def test_bad_arguments(make, names):
    with pytest.raises(InputError, match=names) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("purify", [Median(3), GaussianBlur(0.8), Unchanged()])
def test_a_black_background_has_a_gradient(purify):
    images = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    images[..., 3:5, 3:5] = 1
    images.requires_grad_()
    purify(images).sum().backward()
    # Every output pixel is a mean or one of the inputs; the median's may be one of the padding.
    assert images.grad.sum() == pytest.approx(64, abs=28 if purify == Median(3) else 1e-9)
