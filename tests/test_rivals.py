"""What all rivals that purify have in common, and how they fare on digits."""

import pickle
from functools import cache

import pytest
import torch

from ridefense import Defended, InputError, classifiers, datasets
from ridefense.attacks import PGD
from ridefense.classifiers import count_correct
from ridefense.gradients import Identity, Unrolled
from ridefense.rivals import (
    JPEG,
    ActivationPruning,
    BitDepth,
    CropEnsemble,
    PixelDeflection,
    ResizeAndPad,
    TVMinimisation,
    Wavelet,
)

PURIFIERS = [
    BitDepth(),
    JPEG(),
    TVMinimisation(steps=60),
    ResizeAndPad(),
    Wavelet(),
    PixelDeflection(deflections=20, window=3),
]
each_purifier = pytest.mark.parametrize("purify", PURIFIERS, ids=lambda p: p.name)


def picture(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@each_purifier
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_same_shape_dtype_range_and_an_input_left_alone(purify, channels, dtype):
    images = picture(2, channels, 16, 24).to(dtype)
    before = images.clone()
    purified = purify(images)
    assert purified.shape == images.shape
    assert purified.dtype == dtype
    assert purified.device == images.device
    assert purified.min() >= 0
    assert purified.max() <= 1
    assert torch.equal(images, before)
    assert not torch.equal(purified, images)
    torch.testing.assert_close(purified, purify(images.double()).to(dtype), rtol=0, atol=2e-3)


@each_purifier
def test_a_result_depends_on_seed_and_id_alone(purify):
    images = picture(3, 1, 16, 16)
    images[1] = images[0]
    together = purify(images, ids=[5, 6, 7], seed=9)
    alone = torch.cat([purify(images[[i]], ids=[5 + i], seed=9) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    swapped = purify(images[[2, 0]], ids=[7, 5], seed=9)
    torch.testing.assert_close(swapped, together[[2, 0]], rtol=0, atol=1e-12)
    other = purify(images, ids=[5, 6, 7], seed=10)
    if purify.is_randomised:
        assert not torch.equal(together[0], together[1])
        assert not torch.equal(together, other)
    else:
        assert torch.equal(together[0], together[1])
        assert torch.equal(together, other)
    with torch.inference_mode():
        assert torch.equal(purify(images, ids=[5, 6, 7], seed=9), together)
    copied = pickle.loads(pickle.dumps(purify))
    assert torch.equal(copied(images, ids=[5, 6, 7], seed=9), together)


@each_purifier
def test_a_derivative_where_one_is_claimed(purify):
    images = picture(2, 1, 16, 16).requires_grad_()
    views = Identity().views(purify, images, seed=1)
    (gradient,) = torch.autograd.grad(views.sum(), images)
    assert torch.equal(gradient, torch.ones_like(images))  # BPDA serves all
    assert purify(images, seed=1).requires_grad == purify.differentiable
    if purify.differentiable:
        (gradient,) = torch.autograd.grad(Unrolled().views(purify, images, seed=1).sum(), images)
        assert (gradient != 0).any()


def test_black_pixels_are_not_hidden_from_an_attacker():
    """As `clamp` would, whose derivative at 0 itself is 0: a digit's whole background."""
    images = torch.zeros(1, 1, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(ResizeAndPad()(images, seed=1).sum(), images)
    assert (gradient != 0).all()


# --- On digits -----------------------------------------------------------------------------------


@cache
def classifier():
    return classifiers.load("digits-cnn")


@cache
def digits(count=50):
    return datasets.load("digits", limit=count)


def correct(model, images):
    """Of the digits, in one fresh draw that the attacks did not see."""
    keys = {"seed": 99} if isinstance(model, Defended) else {}
    return int((model(images, **keys).argmax(1) == digits().labels).sum())


DEFENDED = {
    "bit depth": (lambda f: Defended(f, BitDepth()), 0.3),
    "JPEG": (lambda f: Defended(f, JPEG()), 0.3),
    "total variance, BPDA": (lambda f: Defended(f, TVMinimisation(steps=100)), 0.4),
    "total variance": (lambda f: Defended(f, TVMinimisation(steps=100), Unrolled()), 0.4),
    "randomisation": (lambda f: Defended(f, ResizeAndPad(), Unrolled()), 0.4),
    "wavelet": (lambda f: Defended(f, Wavelet()), 0.3),
    "deflection": (lambda f: Defended(f, PixelDeflection(deflections=10, window=2)), 0.4),
    "pruning": (lambda f: ActivationPruning().behind(f), 0.4),
    "crops": (lambda f: CropEnsemble(crops=5, share=24 / 28).behind(f), 0.4),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DEFENDED)
def test_clean_digits_pass_and_a_strong_attack_breaks_through(name):
    make, eps = DEFENDED[name]
    model, images = make(classifier()), digits().images
    bare = count_correct(classifier(), digits())
    assert correct(model, images) >= bare - 5
    attacked = PGD(eps=eps)(model, images, digits().labels)
    assert correct(model, attacked) <= 5
    noisy = (images + eps * (attacked - images).sign().flip(0)).clamp(0, 1)
    assert correct(model, noisy) > 15  # it was the attack, not the size of the noise


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: BitDepth(0), "bits is 0"),
        (lambda: JPEG(0), "quality is 0"),
        (lambda: JPEG(75.5), "quality is 75.5"),
        (lambda: JPEG()(picture(1, 4, 8, 8)), r"\(1, 4, 8, 8\) are no JPEG's"),
        (lambda: TVMinimisation(drop=1.0), "drop is 1.0"),
        (lambda: TVMinimisation(weight=0), "weight is 0"),
        (lambda: TVMinimisation(steps=0), "steps is 0"),
        (lambda: ResizeAndPad(0), "smallest is 0"),
        (lambda: ResizeAndPad(1.1), "smallest is 1.1"),
        (lambda: ResizeAndPad()(picture(2, 1, 8, 8), ids=[1]), "1 ids for 2 images"),
        (lambda: ResizeAndPad()(picture(2, 1, 8, 8), seed=-1), "seed is -1"),
        (lambda: ResizeAndPad()(2 * picture(2, 1, 8, 8)), "images lie in"),
        (lambda: Wavelet(0), "sigma is 0"),
        (lambda: PixelDeflection(deflections=-1), "deflections is -1"),
        (lambda: PixelDeflection(window=0), "window is 0"),
        (lambda: PixelDeflection(sigma=float("nan")), "sigma is nan"),
    ],
)
def test_bad_arguments(make, names):
    with pytest.raises(InputError, match=names) as caught:
        make()
    assert "\n" not in str(caught.value)
