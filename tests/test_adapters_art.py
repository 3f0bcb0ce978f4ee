"""The ART adapter inside ART itself, against autograd through `Defended` and our own PGD."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from art.preprocessing.standardisation_mean_std.numpy import StandardisationMeanStd
from torch import nn

from digits import QUICK, classifier, correct, digits
from ridefense import (
    RIDE,
    Defended,
    GaussianBlur,
    InputError,
    Median,
    Network,
)
from ridefense.adapters.art import Preprocessor
from ridefense.attacks import PGD
from ridefense.gradients import (
    FrozenWeights,
    Identity,
    Surrogate,
    Trajectory,
    Truncated,
    Unrolled,
)
from ridefense.noise import derive

SMALL = RIDE(
    network=Network(channels=(1, 4, 1)),
    steps=3,
    rounds=2,
    learning_rate=0.05,
    samples=2,
    sigma=0.2,
    mask_ratio=0.3,
    engine="eager",
)
MODES = {
    "Identity": (SMALL, Identity()),
    "FrozenWeights": (SMALL, FrozenWeights()),
    "Truncated": (SMALL, Truncated(2)),
    "Unrolled": (SMALL, Unrolled()),
    "Surrogate": (SMALL, Surrogate(nn.Conv2d(1, 1, 3, padding=1))),
    "a filter's own": (GaussianBlur(0.6), Unrolled()),
}
SEED = 7
NEARLY = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture
def tiny():
    """6×5 pixels to 5 logits."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 4 * 3, 5))
    return nn.Sequential(*layers).eval()


def in_art(model, *, shape=(1, 6, 5), classes=5, **arguments):
    return PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(reduction="sum"),
        input_shape=shape,
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
        **arguments,
    )


def call(number):
    """The seed of a `Defended`'s call, counted from 1."""
    return derive(SEED, "call", number)


def test_forward_is_the_purifier_and_draws_anew(pictures):
    x, labels = pictures(2).float().numpy(), np.arange(2)
    preprocess = Preprocessor(SMALL, seed=SEED)
    for number in (1, 2):
        purified, passed = preprocess(x, labels)
        assert np.array_equal(purified, SMALL(torch.from_numpy(x), seed=call(number)).numpy())
        assert np.array_equal(passed, labels)
    assert preprocess.apply_predict
    assert not preprocess.apply_fit


@pytest.mark.parametrize(("purify", "mode"), MODES.values(), ids=MODES)
def test_estimate_gradient_is_that_of_defended(purify, mode, tiny, pictures):
    images, labels = pictures(2).float().requires_grad_(), torch.tensor([1, 3])
    model = Defended(tiny, purify, mode)
    loss = F.cross_entropy(model(images, seed=call(2)), labels)
    (expected,) = torch.autograd.grad(loss, images)

    preprocess, x = Preprocessor(purify, mode, seed=SEED), images.detach().numpy()
    preprocess(x)  # an earlier draw
    purified = torch.tensor(preprocess(x)[0], requires_grad=True)
    cotangent = torch.autograd.grad(F.cross_entropy(tiny(purified), labels), purified)[0].numpy()
    got = preprocess.estimate_gradient(x, cotangent)
    np.testing.assert_allclose(got, expected.numpy(), **NEARLY)
    # ART hands over the gradients of all classes at once as [N, classes, C, H, W].
    stacked = preprocess.estimate_gradient(x, np.stack((cotangent, 2 * cotangent), axis=1))
    np.testing.assert_allclose(stacked, np.stack((got, 2 * got), axis=1), **NEARLY)


@pytest.mark.parametrize("standardised", [False, True], ids=["autograd", "estimate_gradient"])
@pytest.mark.parametrize(("purify", "mode"), MODES.values(), ids=MODES)
def test_gradients_inside_art_are_those_of_defended(purify, mode, standardised, tiny, pictures):
    # Behind a NumPy preprocessor, ART leaves autograd and calls `estimate_gradient`.
    other = {"preprocessing": StandardisationMeanStd(0.0, 1.0)} if standardised else {}
    preprocess = Preprocessor(purify, mode, seed=SEED)
    estimator = in_art(tiny, preprocessing_defences=preprocess, **other)
    assert estimator.all_framework_preprocessing is not standardised
    model = Defended(tiny, purify, mode)
    images, labels = pictures(2).float().requires_grad_(), torch.tensor([1, 3])
    x, one_hot = images.detach().numpy(), F.one_hot(labels, 5).numpy()

    loss = F.cross_entropy(model(images, seed=call(1)), labels, reduction="sum")
    (expected,) = torch.autograd.grad(loss, images)
    got = estimator.loss_gradient(x, one_hot)
    np.testing.assert_allclose(got, expected.numpy(), **NEARLY)

    logits = model(images, seed=call(2))
    rows = [torch.autograd.grad(logits[:, k].sum(), images, retain_graph=True)[0] for k in range(5)]
    got = estimator.class_gradient(x)
    np.testing.assert_allclose(got, torch.stack(rows, dim=1).numpy(), **NEARLY)


def test_several_views_are_refused_and_defended_takes_them(tiny, pictures):
    images, labels = pictures(2).float().requires_grad_(), torch.tensor([1, 3])
    x, one_hot = images.detach().numpy(), F.one_hot(labels, 5).numpy()
    preprocess = Preprocessor(SMALL, Trajectory(), seed=SEED)
    assert np.array_equal(preprocess(x)[0], SMALL(images.detach(), seed=call(1)).numpy())
    with pytest.raises(InputError, match="Trajectory has 2 views of an image"):
        in_art(tiny, preprocessing_defences=preprocess).loss_gradient(x, one_hot)

    model = Defended(tiny, SMALL, Trajectory(), seed=SEED)
    logits = model(images, seed=call(1))
    (expected,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), images)
    got = in_art(model).loss_gradient(x, one_hot)
    np.testing.assert_allclose(got, expected.numpy(), **NEARLY)


def test_parameters_can_be_set(pictures):
    x = pictures(2).float().numpy()
    preprocess = Preprocessor(SMALL, seed=SEED)
    preprocess.set_params(purifier=Median(3))
    assert np.array_equal(preprocess(x)[0], Median(3)(torch.from_numpy(x)).numpy())


@pytest.mark.slow
@pytest.mark.parametrize(("purify", "margin"), [(Median(3), 0), (QUICK, 4)], ids=["Median", "RIDE"])
def test_pgd_of_art_breaks_the_defended_as_ours_does(purify, margin):
    images, labels = digits(20)
    model = Defended(classifier(), purify, seed=SEED)
    ours = correct(model, PGD(eps=0.3, steps=10)(model, images, labels), labels)
    assert correct(model, images, labels) >= 18
    assert ours <= 8
    preprocess = Preprocessor(purify, seed=SEED, device_type="cpu")
    shape = {"shape": (1, 28, 28), "classes": 10}
    for estimator in (
        in_art(classifier(), preprocessing_defences=preprocess, **shape),
        in_art(model, **shape),
    ):
        pgd = ProjectedGradientDescent(
            estimator, norm=np.inf, eps=0.3, eps_step=0.06, max_iter=10, verbose=False
        )
        attacked = torch.from_numpy(pgd.generate(images.numpy(), labels.numpy()))
        assert (attacked - images).abs().max() <= 0.3 + 1e-6
        assert abs(correct(model, attacked, labels) - ours) <= margin
