"""Gradient modes against central differences of the fit itself, in float64, noise held fixed."""

import weakref
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ridefense import IMAGENET, RIDE, GaussianBlur, InputError, Median, Network, TVChambolle, UNet
from ridefense.engines import eager
from ridefense.gradients import (
    FrozenWeights,
    Identity,
    Surrogate,
    Trajectory,
    Truncated,
    Unrolled,
    train_surrogate,
)
from ridefense.noise import Keys

BASE = RIDE(
    network=Network(channels=(1, 16, 16, 1), dropout_after=(2,)),
    steps=4,
    rounds=2,
    sigma=0.154,
    mask_ratio=0.5,
    learning_rate=5e-3,
    samples=2,
    init="kaiming",
    engine="eager",
)
VARIANTS = {
    "ride": {},
    "one round": {"rounds": 1, "steps": 7},
    "three rounds": {"rounds": 3},
    "n=2": {"batch": 2},
    "norm": {"loss": "norm"},
    "clean target": {"target_noise": "none"},
    "fixed input": {"noisy_input": False, "target_noise": "none"},
    "amsgrad": {"amsgrad": True},
    "cosine, no weight decay": {"decay": "cosine", "weight_decay": 0.0},
    "carry weights": {"carry": "weights"},
    "last": {"output": "last"},
    "crop": {"crop": 5},
    "no suppression": {"suppression": "off", "alpha": 0.5},
    "refitted": {"refits": 1},
    "normalised": {
        "network": Network(channels=(3, 16, 16, 3), sigmoid=False),
        "normalisation": IMAGENET,
    },
    "recorrupted": {"target_noise": "recorrupted", "output": "noiseless"},
    "residual": {
        "network": Network(
            channels=(1, 16, 16, 1), sigmoid=False, slope=0.2, residual=True, last_kernel=1
        ),
    },
    "U-Net": {"network": UNet(channels=(1, 8, 8, 1))},
}
SEED, IDS = 5, [3, 8]


def vectors(shape, count=3):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, *shape, generator=generator, dtype=torch.float64)


def difference(function, images, direction, h=1e-7):
    """Central difference of a scalar function, [N] images moved together."""
    with torch.no_grad():
        return float(function(images + h * direction) - function(images - h * direction)) / (2 * h)


def gradient(mode, purify, images, cotangent):
    images = images.clone().requires_grad_()
    views = mode.views(purify, images, ids=IDS[: len(images)], seed=SEED)
    return torch.autograd.grad((views[-1] * cotangent).sum(), images)[0]


def away_from_edges(pictures, channels=1, count=2):
    """Images 8×8 within [0.1, 0.9], so that a small step stays inside [0, 1]."""
    return 0.1 + 0.8 * pictures(count, channels, 8, 8)


@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS.keys())
def test_unrolled_is_the_derivative_of_the_whole_fit(change, pictures):
    purify = replace(BASE, **change)
    images = away_from_edges(pictures, purify.network.channels[0])
    cotangent, *directions = vectors(images.shape)
    got = gradient(Unrolled(), purify, images, cotangent)
    assert got.abs().sum() > 0

    def function(at):
        return (purify(at, ids=IDS, seed=SEED) * cotangent).sum()

    for direction in (*directions, got / got.norm()):
        expected = difference(function, images, direction)
        scale = max(abs(expected), 0.1 * float(got.norm() * direction.norm()) / 8)
        assert abs(float((got * direction).sum()) - expected) <= 1e-4 * scale


@pytest.mark.parametrize("carry", ["all", "weights"])
@pytest.mark.parametrize(("tail", "steps"), [(0, 4), (1, 4), (3, 4), (4, 4), (0, 1), (1, 1)])
def test_truncated_is_the_derivative_of_the_tail(tail, steps, carry, pictures):
    """The fit is halted before its last steps; from there on it is differenced in x^(T-1)."""
    purify = replace(BASE, carry=carry, steps=steps)
    images = away_from_edges(pictures)
    cotangent, *directions = vectors(images.shape)
    mode = Truncated(tail) if tail else FrozenWeights()
    got = gradient(mode, purify, images, cotangent)
    last_x = purify.estimate(images, ids=IDS, seed=SEED).x[1]
    cut = purify.total_steps - tail
    since = 0 if carry == "all" else purify.steps

    def function(at):
        fits = eager.EagerFits(purify, images, Keys.of(SEED, IDS, 2, images.device))
        fits.fit(images, range(steps), [purify.rate(s) for s in range(steps)])
        if carry == "weights":
            fits.moments = torch.zeros_like(fits.moments)
        for x, part in ((last_x, range(steps, cut)), (at, range(cut, 2 * steps))):
            fits.fit(x, part, [purify.rate(s) for s in part], since)
        return (fits.output(at, 2 * steps, purify.samples) * cotangent).sum()

    assert float(function(last_x)) == pytest.approx(
        float((purify(images, ids=IDS, seed=SEED) * cotangent).sum()), rel=1e-9
    )
    for direction in (*directions, got / got.norm()):
        expected = difference(function, last_x, direction)
        assert float((got * direction).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_truncated_into_an_earlier_round_takes_its_start_to_move_with_the_input(pictures):
    purify = replace(BASE, rounds=2)
    images = away_from_edges(pictures)
    cotangent, direction, _ = vectors(images.shape)
    got = gradient(Truncated(6), purify, images, cotangent)

    def function(at):
        fits = eager.EagerFits(purify, images, Keys.of(SEED, IDS, 2, images.device))
        rates = [purify.rate(0)] * 8
        fits.fit(images, range(2), rates)
        fits.fit(at, range(2, 4), rates)
        x = modes_update(purify, at, fits.output(at, 4, purify.samples))
        fits.fit(x, range(4, 8), rates)
        return (fits.output(x, 8, purify.samples) * cotangent).sum()

    expected = difference(function, images, direction)
    assert float((got * direction).sum()) == pytest.approx(expected, rel=1e-4)


def modes_update(purify, x, x_est):
    from ridefense.estimate import update

    return update(purify, x, x_est)


def test_the_modes_are_one_family(pictures):
    images = away_from_edges(pictures)
    cotangent = vectors(images.shape)[0]

    def of(mode):
        return gradient(mode, BASE, images, cotangent)

    assert torch.equal(of(Truncated(8)), of(Unrolled()))
    assert torch.equal(of(Truncated(10**6)), of(Unrolled()))
    assert torch.equal(of(Truncated(0)), of(FrozenWeights()))
    found = [of(mode) for mode in (Identity(), FrozenWeights(), Truncated(3), Unrolled())]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert (one - other).norm() > 1e-3 * other.norm()


class Kept:
    """A tensor that PyTorch keeps for a backward pass."""

    def __init__(self, tensor):
        self.tensor = tensor


def kept_bytes(purify, images):
    """What is kept, after a whole fit, for its backward pass."""
    kept = weakref.WeakSet()

    def keep(tensor):
        box = Kept(tensor)
        kept.add(box)
        return box

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda box: box.tensor):
        views = Unrolled().views(purify, images.clone().requires_grad_(), ids=IDS, seed=SEED)
    assert views.requires_grad
    return sum(box.tensor.numel() * box.tensor.element_size() for box in kept)


def test_memory_of_an_unrolled_fit_grows_with_the_root_of_its_steps(pictures):
    images = away_from_edges(pictures)
    short, long = (
        kept_bytes(replace(BASE, steps=steps, rounds=1, samples=1), images) for steps in (9, 144)
    )
    assert short < long < 5 * short  # 16 times the steps


def test_a_fit_of_many_segments_has_the_derivative_of_the_fit(pictures):
    purify = replace(BASE, steps=18, rounds=1)
    images = away_from_edges(pictures)
    cotangent, direction, _ = vectors(images.shape)
    got = gradient(Unrolled(), purify, images, cotangent)

    def function(at):
        return (purify(at, ids=IDS, seed=SEED) * cotangent).sum()

    expected = difference(function, images, direction)
    assert float((got * direction).sum()) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    "mode", [Identity(), Trajectory(), FrozenWeights(), Truncated(3), Unrolled()], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_last_view_is_the_real_output(mode, dtype, pictures):
    images = away_from_edges(pictures).to(dtype)
    before = images.clone()
    watched = images.requires_grad_()
    views = mode.views(BASE, watched, ids=IDS, seed=SEED)
    rounds = 2 if isinstance(mode, Trajectory) else 1
    assert views.shape == (rounds, *images.shape)
    assert views.dtype == dtype
    assert views.requires_grad
    tolerance = {torch.float16: 2e-3, torch.float32: 1e-4, torch.float64: 1e-10}[dtype]
    expected = BASE(before, ids=IDS, seed=SEED)
    torch.testing.assert_close(views[-1].detach(), expected, rtol=0, atol=tolerance)
    assert torch.equal(images, before)


@pytest.mark.parametrize("mode", [FrozenWeights(), Truncated(3)], ids=str)
def test_steps_on_the_fastest_engine_hand_their_state_over(mode, pictures):
    pytest.importorskip("ridefense_native", reason="ridefense-native not installed")
    purify, images = replace(BASE, engine="auto"), away_from_edges(pictures).float()
    assert purify.estimate(images).engine == "native"
    cotangent = vectors(images.shape)[0]
    views = mode.views(purify, images.clone().requires_grad_(), ids=IDS, seed=SEED)
    torch.testing.assert_close(views[-1], purify(images, ids=IDS, seed=SEED), rtol=0, atol=1e-4)
    got = gradient(mode, purify, images, cotangent.float()).double()
    expected = gradient(mode, BASE, images.double(), cotangent)
    assert (got - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("mode", [FrozenWeights(), Truncated(3), Unrolled()], ids=str)
def test_autocast_changes_no_gradient(mode, pictures):
    images = away_from_edges(pictures).float()
    cotangent = vectors(images.shape)[0].float()
    expected = gradient(mode, BASE, images, cotangent)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = gradient(mode, BASE, images, cotangent)
    assert torch.equal(got, expected)


def test_one_images_gradient_does_not_depend_on_its_neighbours(pictures):
    images = away_from_edges(pictures, count=2)
    cotangent = vectors(images.shape)[0]
    together = gradient(Unrolled(), BASE, images, cotangent)
    alone = gradient(Unrolled(), BASE, images[:1], cotangent[:1])
    torch.testing.assert_close(together[:1], alone, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("mode", [FrozenWeights(), Truncated(2)], ids=str)
def test_what_fits_nothing_is_refused(mode, pictures):
    with pytest.raises(InputError, match="TVChambolle fits nothing"):
        mode.views(TVChambolle(0.1), pictures(1).requires_grad_())


@pytest.mark.parametrize(
    ("mode", "purifier"), [(Trajectory(), Median(3)), (Unrolled(), TVChambolle(0.1))], ids=str
)
def test_a_filter_without_a_derivative_has_the_identitys(mode, purifier, pictures):
    images = pictures(2).requires_grad_()
    views = mode.views(purifier, images)
    assert torch.equal(views, purifier(images)[None])
    assert torch.autograd.grad(views.sum(), images)[0].eq(1).all()


@pytest.mark.parametrize("steps", [-1, 1.5])
def test_bad_truncation(steps):
    with pytest.raises(InputError, match=f"steps is {steps}"):
        Truncated(steps)


def test_names():
    assert [m.name for m in (Identity(), Truncated(5), Unrolled())] == [
        "Identity", "Truncated(5)", "Unrolled",
    ]  # fmt: skip


def smooth(count, seed):
    """Blobs: noise at a quarter of the size, enlarged."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(count, 1, 4, 4, generator=generator)
    return F.interpolate(small, size=(12, 12), mode="bilinear")


@pytest.mark.slow
def test_a_surrogate_of_a_blur_has_the_gradient_of_a_blur():
    blur, images = GaussianBlur(0.8), smooth(8, seed=1)
    network = train_surrogate(blur, smooth(48, seed=0), width=12, epochs=150)
    mode = Surrogate(network)
    cotangent = torch.randn(images.shape, generator=torch.Generator().manual_seed(3))
    got = gradient_of_all(mode, blur, images, cotangent)
    expected = gradient_of_all(Unrolled(), blur, images, cotangent)
    identity = gradient_of_all(Identity(), blur, images, cotangent)

    def cosine(a, b):
        return float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0))

    assert cosine(got, expected) > 0.9 > cosine(identity, expected)
    assert torch.equal(mode.views(blur, images)[0], blur(images))
    assert not any(p.requires_grad for p in network.parameters())


def gradient_of_all(mode, purify, images, cotangent):
    images = images.clone().requires_grad_()
    return torch.autograd.grad((mode.views(purify, images)[0] * cotangent).sum(), images)[0]


def test_training_a_surrogate_repeats_and_leaves_the_global_generator_alone():
    images = smooth(4, seed=0)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = train_surrogate(Median(3), images, width=4, epochs=2, seed=6)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    with torch.no_grad():
        second = train_surrogate(Median(3), images, width=4, epochs=2, seed=6)
        third = train_surrogate(Median(3), images, width=4, epochs=2, seed=7)
        assert torch.equal(first(images), second(images))
    with torch.inference_mode():
        fourth = train_surrogate(Median(3), smooth(4, seed=0), width=4, epochs=2, seed=6)
        assert torch.equal(first(images), fourth(images))
    again = train_surrogate(Median(3), images.clone().requires_grad_(), width=4, epochs=2, seed=6)
    with torch.no_grad():
        assert torch.equal(first(images), again(images))
        assert not torch.equal(first(images), third(images))
