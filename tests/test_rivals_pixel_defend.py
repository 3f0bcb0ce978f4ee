"""PixelDefend: its PixelCNN, its purifier and its detector."""

import math
import pickle

import pytest
import torch

from ridefense import InputError, datasets, purifiers
from ridefense.describe import describe
from ridefense.rivals import (
    PixelCNN,
    PixelDefend,
    load_pixel_cnn,
    p_values,
    save_weights,
    train_pixel_cnn,
)
from ridefense.rivals.learning import initialised
from ridefense.rivals.pixel_cnn import LEVELS, REFERENCE, level_of, rounded


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits").drawn(20, seed=3).images


@pytest.fixture(scope="module")
def network():
    return load_pixel_cnn()


def picture(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# --- The network ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("y", "x"), [(0, 0), (5, 7), (11, 0), (11, 13)])
def test_logits_depend_on_the_pixels_before_in_raster_order_alone(y, x):
    network = initialised(PixelCNN, 1)
    images = picture(1, 1, 12, 14)
    changed = images.clone()
    changed[0, 0, y, x] = 1 - changed[0, 0, y, x].round()
    differs = (network(images) != network(changed)).any(dim=1)[0].flatten()
    place = y * 14 + x
    assert not differs[: place + 1].any()
    assert differs.any() == (place < 12 * 14 - 1)


def test_logits_reach_as_far_as_they_say():
    network = initialised(PixelCNN, 1)
    images = picture(1, 1, 30, 40).requires_grad_()
    features = network.first(images)
    for block in network.blocks:
        features = features + block(features)  # without ReLUs nothing is cut off
    (slope,) = torch.autograd.grad(features[0, :, 20, 20].sum(), images)
    rows, columns = slope[0, 0].nonzero().unbind(dim=1)
    reach = network.first.reach + sum(block.reach for block in network.blocks)
    assert (20 - rows.min(), 20 - columns.min(), columns.max() - 20) == (reach,) * 3
    assert rows.max() == 20


def test_likelihoods_of_all_images_sum_to_one():
    network = initialised(PixelCNN, 2).double()
    values = torch.arange(LEVELS).double() / (LEVELS - 1)
    images = torch.cartesian_prod(values, values).view(-1, 1, 1, 2)
    total = network.log_likelihood(images).exp().sum()
    assert total.item() == pytest.approx(1)


def test_greedy_choice_is_that_of_whole_passes():
    """Its features, computed pixel by pixel, are those of the convolutions."""
    network = initialised(PixelCNN, 3).double().requires_grad_(False)
    images = picture(3, 1, 6, 7).double()
    least, most = level_of(images - 0.3)[:, None], level_of(images + 0.3)[:, None]
    chosen = network.greedy(images, least, most)
    expected = torch.zeros(3, 1, 6, 7).double()
    levels = torch.arange(LEVELS).view(1, -1)
    for y in range(6):
        for x in range(7):
            logits = network(expected)[:, :, y, x]
            outside = (levels < least[:, 0, y, x, None]) | (levels > most[:, 0, y, x, None])
            best = logits.masked_fill(outside, -torch.inf).argmax(dim=1)
            expected[:, 0, y, x] = best / (LEVELS - 1)
    assert torch.equal(chosen, level_of(expected))


def test_the_shipped_network_knows_digits_from_what_is_almost_one(network, digits):
    likely = network.log_likelihood(digits)
    bits = -likely.mean() / math.log(2) / 784
    assert bits < 0.8  # 4 where all 16 levels are alike
    noisy = (digits + 0.1 * picture(*digits.shape)).clamp(0, 1)
    assert (network.log_likelihood(noisy) < likely).all()
    assert network.log_likelihood(digits.flip(2)).mean() < likely.mean()


def test_training_raises_the_likelihood_and_the_seed_decides(tmp_path):
    images = torch.zeros(8, 1, 8, 8)
    images[:, :, 2:6, 2:6] = 1
    settings = {"seed": 3, "batch": 4}
    made = [train_pixel_cnn(images, steps=steps, **settings) for steps in (1, 25, 25)]
    likely = [network.log_likelihood(images[:1]).item() for network in made]
    assert likely[1] == likely[2] > likely[0] / 2
    assert made[1].reference.shape == (REFERENCE,)
    assert made[1].reference.mean() == pytest.approx(likely[1], rel=1e-4)
    whole = train_pixel_cnn((images * 255).byte(), steps=25, **settings)
    assert torch.equal(whole.reference, made[1].reference)
    save_weights(made[1], tmp_path / "made.safetensors")
    again = load_pixel_cnn(tmp_path / "made.safetensors")
    assert torch.equal(again.log_likelihood(images), made[1].log_likelihood(images))


# --- The purifier ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_purified_images_lie_in_the_ball_and_are_likelier(network, digits, dtype):
    images = (digits[:6] + 0.1 * (2 * picture(6, 1, 28, 28) - 1)).clamp(0, 1).to(dtype)
    before = images.clone()
    purified = PixelDefend(eps=0.2)(images)
    assert torch.equal(images, before)
    assert (purified.dtype, purified.shape) == (dtype, images.shape)
    assert (purified - images).abs().max() <= 0.2 + torch.finfo(dtype).eps
    assert purified.min() >= 0
    assert purified.max() <= 1
    likely = [network.log_likelihood(x.float()) for x in (images, purified)]
    assert (likely[1] > likely[0]).all()


def test_an_image_s_result_is_its_own(digits):
    defence = PixelDefend(0.1)
    images = digits[:2]
    together = defence(images, ids=[1, 2], seed=4)
    assert torch.equal(together, torch.cat([defence(image[None]) for image in images]))
    with torch.inference_mode():
        assert torch.equal(defence(images), together)
    copied = pickle.loads(pickle.dumps(defence))
    assert torch.equal(copied(images), together)
    assert not defence(images.clone().requires_grad_()).requires_grad
    assert describe(defence) != describe(PixelDefend(0.1, initialised(PixelCNN, 0)))


def test_a_tiny_ball_leaves_the_levels_as_they_are(digits):
    levels = rounded(digits[:2])
    assert torch.allclose(PixelDefend(eps=1e-4)(levels), levels, atol=1e-4)


def test_p_values_are_uniform_on_digits_and_small_on_attacked_ones(network, digits):
    assert torch.equal(network.reference, network.reference.sort().values)
    clean = p_values(datasets.load("digits").drawn(200, seed=5).images)
    assert 0.3 < clean.mean() < 0.7
    assert (clean > 1e-9).all()
    assert (clean <= 1).all()
    noisy = (digits + 0.1 * picture(*digits.shape).sub(0.5).sign()).clamp(0, 1)
    assert (p_values(noisy) < 0.05).all()


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: PixelDefend(eps=0), "eps is 0"),
        (lambda: PixelDefend(network="mine.safetensors"), "network is 'mine.safetensors'"),
        (lambda: PixelDefend()(picture(1, 3, 28, 28)), r"shape \(1, 3, 28, 28\)"),
        (lambda: p_values(picture(1, 3, 28, 28)), r"shape \(1, 3, 28, 28\)"),
        (lambda: train_pixel_cnn(picture(4, 3, 8, 8)), r"shape \(4, 3, 8, 8\)"),
        (lambda: load_pixel_cnn("nowhere.safetensors"), "no PixelCNN at nowhere"),
    ],
)
def test_bad_arguments(make, names):
    with pytest.raises(InputError, match=names) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_name():
    assert purifiers.load("pixel-defend:0.1") == PixelDefend(eps=0.1)
