"""Networks before the classifier: the guided denoiser and the perturbation rectifier."""

import pickle

import pytest
import torch
from scipy.fft import dctn
from torch import nn

from ridefense import InputError, classifiers, datasets, purifiers
from ridefense.gradients import Unrolled, best_gradient
from ridefense.rivals import (
    DenoisingUNet,
    GuidedDenoiser,
    PerturbationRectifier,
    load_guided_denoiser,
    load_rectifier,
    save_weights,
    train_guided_denoiser,
    train_rectifier,
)
from ridefense.rivals.learning import initialised, perturbed
from ridefense.rivals.rectifier import (
    spectrum,
    synthetic_perturbations,
    universal_perturbation,
)

DEFENCES = [GuidedDenoiser(), PerturbationRectifier(), PerturbationRectifier(detects=False)]
each_defence = pytest.mark.parametrize("defence", DEFENCES, ids=str)


@pytest.fixture(scope="module")
def classifier():
    return classifiers.load("mnist-cnn")


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits").drawn(60, seed=3)


def picture(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def right(classifier, images, digits):
    return (classifier(images).argmax(dim=1) == digits.labels).float().mean().item()


# --- What both have in common ---------------------------------------------------------------------


@each_defence
def test_contract(defence, digits):
    images = digits.images[:3]
    before = images.clone()
    together = defence(images, ids=[4, 5, 6], seed=2)
    assert (together.shape, together.dtype) == (images.shape, images.dtype)
    assert torch.equal(images, before)
    assert together.min() >= 0
    assert together.max() <= 1
    alone = torch.cat([defence(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(defence(images.double()).float(), together, rtol=0, atol=1e-4)
    with torch.inference_mode():
        assert torch.equal(defence(images.clone()), together)
    copied = pickle.loads(pickle.dumps(defence))
    assert torch.equal(copied(images), together)


@each_defence
def test_pytorch_differentiates_it(defence, classifier, digits):
    images = perturbed(classifier, digits.images[:2], 0.3, 4).requires_grad_()
    assert best_gradient(defence) == Unrolled()
    (slope,) = torch.autograd.grad(Unrolled().views(defence, images).square().sum(), images)
    assert slope.isfinite().all()
    assert not torch.allclose(slope, 2 * defence(images).detach())  # that of the identity


# --- The guided denoiser --------------------------------------------------------------------------


def test_a_denoiser_that_finds_nothing_leaves_images_as_they_are():
    network = initialised(DenoisingUNet, 0)
    nn.init.zeros_(network.last.weight)
    nn.init.zeros_(network.last.bias)
    for images in (picture(2, 1, 28, 28), picture(1, 1, 13, 9)):
        assert torch.equal(GuidedDenoiser(network)(images), images)


def test_the_shipped_denoiser_gives_attacked_digits_back_their_logits(classifier, digits):
    purify = GuidedDenoiser()
    wanted = classifier(digits.images)
    for steps in (1, 10):
        attacked = perturbed(classifier, digits.images, 0.2, steps)
        apart = [(classifier(x) - wanted).abs().mean() for x in (attacked, purify(attacked))]
        assert apart[1] < 0.5 * apart[0]
        assert right(classifier, purify(attacked), digits) > 0.7
        assert right(classifier, attacked, digits) < 0.6
    assert right(classifier, purify(digits.images), digits) > 0.95


def test_training_a_denoiser_lowers_the_distance_of_logits(tmp_path):
    classifier = classifiers.load("digits-cnn")
    images = datasets.load("digits", "train").drawn(32).images
    told = []
    settings = {"eps": 0.2, "seed": 3, "batch": 8, "width": 4, "rate": 2e-2}
    made = [
        train_guided_denoiser(
            classifier, images, steps=20, progress=lambda *now: told.append(now), **settings
        )
        for _ in range(2)
    ]
    assert torch.equal(made[0].last.weight, made[1].last.weight)
    losses = [loss for _, _, loss in told[:20]]
    assert sum(losses[-5:]) < sum(losses[:5])
    save_weights(made[0], tmp_path / "made.safetensors")
    with pytest.raises(InputError, match="holds no denoiser"):  # of another width
        load_guided_denoiser(tmp_path / "made.safetensors")


# --- The rectifier --------------------------------------------------------------------------------


def test_the_spectrum_is_scipy_s():
    images = picture(2, 1, 6, 6).double()
    expected = torch.from_numpy(dctn(images.numpy(), axes=(2, 3), norm="ortho"))
    torch.testing.assert_close(spectrum(images), (expected.abs() + 1e-3).log())


def test_a_universal_perturbation_stays_in_its_ball_and_fools_on_other_images(classifier, digits):
    learnt = datasets.load("digits", "train").drawn(64, seed=1).images
    found = universal_perturbation(classifier, learnt, eps=0.3, steps=10)
    assert found.shape == (1, 1, 28, 28)
    assert found.abs().max() <= 0.3
    noise = 0.3 * (2 * picture(1, 1, 28, 28) - 1).sign()
    attacked, noisy = ((digits.images + x).clamp(0, 1) for x in (found, noise))
    assert right(classifier, attacked, digits) < right(classifier, noisy, digits) - 0.2


def test_synthetic_perturbations_lie_in_the_cone_of_the_given_ones():
    random = torch.Generator().manual_seed(0)
    made = torch.tensor([[0.2, 0.0, 0.1], [0.0, -0.2, 0.1]]).view(2, 3, 1, 1)
    found = synthetic_perturbations(made, 50, eps=0.2, random=random)[:, :, 0, 0]
    assert (found.abs().amax(dim=1) == 0.2).all()
    assert (found[:, 0] >= 0).all()
    assert (found[:, 1] <= 0).all()
    assert (found[:, 2] > 0).all()


def test_what_the_detector_passes_is_left_as_it_is(digits, classifier):
    universal = universal_perturbation(classifier, digits.images, eps=0.3, steps=10)
    images = torch.cat((digits.images, (digits.images + universal).clamp(0, 1)))
    network = load_rectifier()
    rectified = network(images)
    perturbed_too = network.score(images, rectified) > 0
    assert perturbed_too[:60].float().mean() < 0.2
    assert perturbed_too[60:].float().mean() > 0.6
    found = PerturbationRectifier()(images)
    assert torch.equal(found[~perturbed_too], images[~perturbed_too])
    assert torch.equal(found[perturbed_too], rectified[perturbed_too].clamp(0, 1))
    everything = PerturbationRectifier(detects=False)(images)
    assert torch.equal(everything, rectified.clamp(0, 1))


def test_the_shipped_rectifier_undoes_universal_perturbations(classifier, digits):
    universal = universal_perturbation(classifier, digits.images, eps=0.3, steps=10)
    attacked = (digits.images + universal).clamp(0, 1)
    before, after = (
        right(classifier, x, digits) for x in (attacked, PerturbationRectifier()(attacked))
    )
    assert after > max(0.8, before + 0.2)
    assert right(classifier, PerturbationRectifier()(digits.images), digits) > 0.95


@pytest.mark.slow
def test_training_a_rectifier_lowers_its_loss_and_the_seed_decides(tmp_path):
    classifier = classifiers.load("digits-cnn")
    learnt = datasets.load("digits", "train").drawn(64)
    told = []
    settings = {"eps": 0.3, "seed": 3, "steps": 15, "batch": 8, "perturbations": 2, "rate": 1e-2}
    made = [
        train_rectifier(
            classifier,
            learnt.images,
            learnt.labels,
            progress=lambda *now: told.append(now),
            **settings,
        )
        for _ in range(2)
    ]
    for a, b in zip(made[0].parameters(), made[1].parameters(), strict=True):
        assert torch.equal(a, b)
        assert not a.requires_grad
    losses = [loss for _, _, loss in told[:15]]
    assert sum(losses[-5:]) < sum(losses[:5])
    save_weights(made[0], tmp_path / "made.safetensors")
    again = load_rectifier(tmp_path / "made.safetensors")
    images = picture(1, 1, 28, 28)
    torch.testing.assert_close(again(images), made[0](images), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: GuidedDenoiser("mine"), "network is 'mine'"),
        (lambda: GuidedDenoiser()(picture(1, 3, 28, 28)), r"\(1, 3, 28, 28\)"),
        (lambda: load_guided_denoiser("nowhere.safetensors"), "no denoiser at nowhere"),
        (lambda: PerturbationRectifier("mine"), "network is 'mine'"),
        (lambda: PerturbationRectifier()(picture(1, 1, 32, 32)), r"\(1, 1, 32, 32\)"),
        (lambda: load_rectifier("nowhere.safetensors"), "no rectifier at nowhere"),
        (lambda: train_guided_denoiser(nn.Identity(), picture(2, 1, 8, 8), eps=0), "eps is 0"),
    ],
)
def test_bad_arguments(make, names):
    with pytest.raises(InputError, match=names) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_names():
    assert purifiers.load("guided-denoiser") == GuidedDenoiser()
    assert purifiers.load("rectifier") == PerturbationRectifier()
