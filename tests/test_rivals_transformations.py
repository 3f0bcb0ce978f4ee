import numpy as np
import pytest
import scipy.fft
import scipy.optimize
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.restoration import denoise_wavelet

from ridefense import datasets
from ridefense.noise import Keys
from ridefense.rivals import JPEG, BitDepth, PixelDeflection, ResizeAndPad, TVMinimisation, Wavelet


def picture(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(*shape):
    """Colours and structure, so that compression has something to keep."""
    return F.interpolate(picture(*shape[:2], 5, 5), shape[2:], mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_bit_depth_goes_to_the_nearest_level(bits):
    images = picture(2, 3, 6, 5)
    levels = np.linspace(0, 1, 2**bits)
    nearest = np.abs(images.numpy()[..., None] - levels).argmin(axis=-1)
    np.testing.assert_allclose(BitDepth(bits)(images).numpy(), levels[nearest], atol=1e-15)


@pytest.mark.parametrize("bits", [1, 3])
def test_stand_ins_of_bit_depth_round_ever_more_sharply(bits, pictures):
    images = pictures(2)
    exact, errors = BitDepth(bits)(images), []
    for network in BitDepth(bits).stand_ins:
        watched = images.clone().requires_grad_()
        made = network(watched)
        (gradient,) = torch.autograd.grad(made.sum(), watched)
        assert (gradient > 0).all()
        errors.append((made - exact).abs().mean())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


# The luminance table of the JPEG standard (ITU-T T.81, table K.1), for quality 50.
LUMINANCE = """
16 11 10 16 24 40 51 61      12 12 14 19 26 58 60 55      14 13 16 24 40 57 69 56
14 17 22 29 51 87 80 62      18 22 37 56 68 109 103 77    24 35 55 64 81 104 113 92
49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99
"""


@pytest.mark.parametrize(("quality", "percent"), [(75, 50), (25, 200)])
def test_jpeg_quantises_cosine_coefficients(quality, percent):
    images = smooth(2, 1, 24, 40)
    table = np.array(LUMINANCE.split(), dtype=int).reshape(8, 8)
    table = np.clip((table * percent + 50) // 100, 1, 255)
    expected = (images * 255).round()[:, 0].numpy() - 128
    for image in expected:
        for y in range(0, 24, 8):
            for x in range(0, 40, 8):
                block = image[y : y + 8, x : x + 8]
                kept = np.round(scipy.fft.dctn(block, norm="ortho") / table) * table
                image[y : y + 8, x : x + 8] = scipy.fft.idctn(kept, norm="ortho")
    expected = np.clip(np.round(expected + 128), 0, 255)
    got = JPEG(quality)(images)[:, 0].numpy() * 255
    # The encoder's transform is of whole numbers, so single coefficients may round otherwise.
    assert (np.abs(got - expected) <= 2).mean() > 0.95
    assert np.abs(got - expected).mean() < 0.5
    assert np.abs(got - images[:, 0].numpy() * 255).mean() > 1


@pytest.mark.parametrize("quality", [20, 75])
@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 33, 40)])
def test_jpeg_has_a_stand_in_with_a_derivative(quality, shape):
    images = smooth(*shape).float()
    (network,) = JPEG(quality).stand_ins
    watched = images.clone().requires_grad_()
    made, exact = network(watched), JPEG(quality)(images)
    # The integer arithmetic of libjpeg moves levels by one, and colours at an odd border by more.
    assert (made - exact).abs().mean() < 1.5 / 255
    (gradient,) = torch.autograd.grad(made.sum(), watched)
    assert gradient.isfinite().all()
    # A brighter image is decoded as a brighter one: the derivative is 1 on average.
    assert 0.8 < float(gradient.mean()) < 1.2


def test_jpeg_of_colours():
    grey, colours = smooth(1, 1, 16, 24), smooth(1, 3, 16, 24)
    torch.testing.assert_close(
        JPEG()(grey.expand(-1, 3, -1, -1)), JPEG()(grey).expand(-1, 3, -1, -1), rtol=0, atol=2 / 255
    )
    loss = [(JPEG(quality)(colours) - colours).abs().mean() for quality in (10, 75, 100)]
    assert loss[0] > loss[1] > loss[2]
    assert loss[1] < 0.05


@pytest.mark.parametrize("channels", [1, 3])
def test_wavelet_is_scikit_images(channels):
    images = picture(2, channels, 16, 16)
    expected = [
        denoise_wavelet(
            image.numpy(),
            sigma=0.04,
            wavelet="db1",
            mode="soft",
            method="BayesShrink",
            convert2ycbcr=channels == 3,
            channel_axis=0,
        )
        for image in images
    ]
    torch.testing.assert_close(
        Wavelet(0.04)(images), torch.from_numpy(np.stack(expected)).clamp(0, 1)
    )


def test_wavelet_takes_noise_away():
    clean = smooth(2, 1, 32, 32)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    noisy = noisy.clamp(0, 1)
    denoised = Wavelet(0.1)(noisy)
    assert (denoised - clean).square().mean() < 0.5 * (noisy - clean).square().mean()


# --- Total-variance minimisation -----------------------------------------------------------------


def objective(z, x, mask, weight):
    """Of one channel, as section 3 of Guo et al. writes it, row by row and column by column."""
    rows = sum(np.linalg.norm(z[i] - z[i - 1]) for i in range(1, len(z)))
    columns = sum(np.linalg.norm(z[:, j] - z[:, j - 1]) for j in range(1, z.shape[1]))
    return np.linalg.norm(mask * (z - x)) + weight * (rows + columns)


@pytest.mark.parametrize("weight", [0.03, 0.3])
def test_total_variance_minimisation_finds_the_minimum(weight):
    images = picture(1, 1, 7, 6)
    purify = TVMinimisation(drop=0.4, weight=weight, steps=3000)
    keys = Keys.of(3, [8], 1, images.device)
    mask, x = purify.mask(images, keys)[0, 0].numpy(), images[0, 0].numpy()
    ours = objective(purify.draw(images, keys)[0, 0].numpy(), x, mask, weight)

    def flat(values):
        return objective(values.reshape(x.shape), x, mask, weight)

    found = scipy.optimize.minimize(flat, x.ravel(), method="Powell", options={"maxiter": 60})
    assert ours <= found.fun + 1e-6
    assert ours < 0.98 * flat((x * mask).ravel())


def test_total_variance_minimisation_is_done_after_its_default_steps():
    images = datasets.load("digits", limit=2).images.double()
    keys = Keys.of(0, None, 2, images.device)
    short, long = TVMinimisation(), TVMinimisation(steps=2000)
    for image, a, b, mask in zip(
        images,
        short.draw(images, keys),
        long.draw(images, keys),
        short.mask(images, keys),
        strict=True,
    ):
        values = [objective(z[0].numpy(), image[0].numpy(), mask[0].numpy(), 0.03) for z in (a, b)]
        assert values[1] <= values[0] <= 1.01 * values[1]


def test_total_variance_minimisation_never_looks_at_dropped_pixels():
    images = picture(2, 3, 8, 8)
    purify = TVMinimisation()
    mask = purify.mask(images, Keys.of(5, None, 2, images.device))
    assert 0.4 < mask.mean() < 0.6
    changed = torch.where(mask > 0, images, 1 - images)
    assert torch.equal(purify(images, seed=5), purify(changed, seed=5))


def test_derivative_of_total_variance_minimisation():
    purify = TVMinimisation(steps=12)
    assert purify.differentiable
    images = (0.2 + 0.6 * picture(1, 1, 4, 5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: purify(x, seed=2), images)


# --- Randomisation -------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "least"), [(28, 25), (32, 29), (224, 202)])
def test_resize_and_pad_has_the_papers_proportions(size, least):
    white = torch.ones(60, 1, size, size)
    placed = ResizeAndPad()(white)
    rows, columns = placed.amax(dim=3)[:, 0] > 0.5, placed.amax(dim=2)[:, 0] > 0.5
    heights, widths = rows.sum(dim=1), columns.sum(dim=1)
    assert torch.equal(heights, widths)
    assert heights.min() >= least
    assert heights.max() <= size
    assert len(set(heights.tolist())) > 3
    tops = rows.int().argmax(dim=1)
    assert (tops + heights <= size).all()
    assert tops.min() == 0
    assert (tops + heights).max() == size
    smaller = heights < size
    assert len(set((tops[smaller]).tolist())) > 2  # the place is random too
    torch.testing.assert_close(placed.sum(dim=(1, 2, 3)), (heights * widths).float())


@pytest.mark.parametrize(("share", "shape"), [(0.4, (28, 1)), (0.01, (20, 30)), (0.01, (1, 1))])
def test_resize_and_pad_leaves_a_pixel(share, shape):
    white = torch.ones(20, 1, *shape)
    placed = ResizeAndPad(share)(white)
    assert placed.shape == white.shape
    assert (placed.sum(dim=(1, 2, 3)) >= 0.99).all()


def test_resize_and_pad_is_pillows_resize():
    images = picture(6, 3, 30, 20).float()
    placed = ResizeAndPad(0.8)(images, seed=4)
    for image, got in zip(images, placed, strict=True):
        filled = got.amax(dim=0) > 0
        tall, wide = int(filled.any(dim=1).sum()), int(filled.any(dim=0).sum())
        assert wide == round(20 * tall / 30)
        top, left = int(filled.any(dim=1).int().argmax()), int(filled.any(dim=0).int().argmax())
        for channel in range(3):
            expected = Image.fromarray(image[channel].numpy()).resize((wide, tall), Image.BILINEAR)
            inner = got[channel, top : top + tall, left : left + wide]
            np.testing.assert_allclose(inner.numpy(), np.asarray(expected), atol=1e-5)


def test_derivative_of_resize_and_pad():
    purify = ResizeAndPad(0.7)
    assert torch.autograd.gradcheck(
        lambda x: purify(x, seed=2), (0.1 + 0.8 * picture(2, 1, 6, 5)).requires_grad_()
    )


# --- Pixel deflection ----------------------------------------------------------------------------


def test_deflected_pixels_come_from_their_neighbourhood():
    height, width, window = 30, 40, 3
    place = torch.arange(height * width).double().view(1, 1, height, width) / (height * width)
    images = torch.cat((place, 1 - place), dim=1).repeat(3, 1, 1, 1)
    purify = PixelDeflection(deflections=60, window=window)
    moved = purify.deflected(images, Keys.of(1, None, 3, images.device))
    torch.testing.assert_close(moved[:, 1], 1 - moved[:, 0])  # channels move together
    for image in moved:
        source = (image[0] * height * width).round().long()
        y, x = source // width, source % width
        far_y = (y - torch.arange(height)[:, None]).abs()
        far_x = (x - torch.arange(width)).abs()
        changed = (far_y + far_x) > 0
        assert 45 < changed.sum() <= 60
        # A pixel copied from one that was itself replaced may come from two windows away.
        assert (far_y > window).sum() + (far_x > window).sum() <= 6
        assert far_y.max() <= 2 * window
        assert (far_y == window).any()
        assert (far_x == window).any()
    assert not torch.equal(moved[0], moved[1])


def test_deflection_then_denoising():
    images = smooth(2, 3, 16, 16)
    purify = PixelDeflection(deflections=5)
    keys = Keys.of(7, [3, 4], 2, images.device)
    expected = Wavelet(0.04)(purify.deflected(images, keys))
    torch.testing.assert_close(purify(images, ids=[3, 4], seed=7), expected)
    none = PixelDeflection(deflections=0)
    torch.testing.assert_close(none(images), Wavelet(0.04)(images))
