"""LID: the estimator, the detector, and the classifier that refuses."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ridefense import InputError, classifiers, datasets, purifiers
from ridefense.attacks import PGD, margin
from ridefense.evaluate import REFUSED, Evaluation, Threat, run
from ridefense.gradients import Identity
from ridefense.models import read_by
from ridefense.rivals import LID, LIDDetector, load_lid, save_weights, train_lid
from ridefense.rivals.learning import perturbed
from ridefense.rivals.lid import activations, lid
from ridefense.rivals.training_digits import training_digits


@pytest.fixture(scope="module")
def classifier():
    return classifiers.load("mnist-cnn")


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits").drawn(60, seed=3)


def in_ball(count, dimensions, ambient, seed=0):
    """Points uniform in the unit ball of a subspace, in random position in the space around it."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, dimensions, generator=generator).double()
    radii = torch.rand(count, 1, generator=generator).double() ** (1 / dimensions)
    basis, _ = torch.linalg.qr(torch.randn(ambient, dimensions, generator=generator).double())
    return F.normalize(points) * radii @ basis.T


@pytest.mark.parametrize("dimensions", [1, 2, 5, 10])
def test_lid_is_the_dimension_of_a_ball_whatever_the_space_around_it(dimensions):
    centre = torch.zeros(1, 30).double()
    found = [lid(centre, in_ball(400, dimensions, 30, seed), 100) for seed in range(20)]
    # The estimate's deviation is its value over √k, and the mean is of 20 estimates.
    assert torch.cat(found).mean().item() == pytest.approx(dimensions, rel=0.1)


def test_lid_by_hand_and_free_of_scale():
    references = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-4.0, 0.0], [9.0, 9.0]]).double()
    point = torch.zeros(1, 2).double()
    expected = 3 / (torch.tensor(4.0).log() + torch.tensor(2.0).log())
    assert lid(point, references, 3).item() == pytest.approx(expected.item())
    assert lid(point, 7 * references, 3).item() == pytest.approx(expected.item())


def test_activations_are_those_of_every_relu_and_the_logits(classifier, digits):
    images = digits.images[:2]
    layers, logits = activations(classifier, images)
    assert [tuple(layer.shape) for layer in layers] == [(2, 12544), (2, 6272), (2, 64), (2, 10)]
    assert torch.equal(logits, classifier(images))
    assert torch.equal(layers[-1], logits)
    assert all((layer >= 0).all() for layer in layers[:-1])


def test_it_refuses_where_the_score_is_positive_and_answers_as_the_classifier_does(
    classifier, digits
):
    model = LID().behind(classifier)
    attacked = perturbed(classifier, digits.images, 0.2, 1)
    for images in (digits.images, attacked):
        found, bare = model(images), classifier(images)
        assert found.shape == (60, 11)
        torch.testing.assert_close(found[:, :10], bare)
        detector, (own, _) = load_lid(), activations(classifier, images)
        others, _ = activations(classifier, detector.references)
        score = detector.score(detector.dimensions(own, others))
        assert torch.equal(found.argmax(dim=1) == 10, score > 0)
    assert (model(digits.images).argmax(dim=1) == 10).float().mean() < 0.15
    assert (model(attacked).argmax(dim=1) == 10).float().mean() > 0.5


def test_its_derivative_is_that_of_the_detector_too(classifier, digits):
    """So an attack that knows it can make the detector answer."""
    precise = copy.deepcopy(classifier).double()
    model = LID().behind(precise)
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand((4, 1, 28, 28), generator=generator, dtype=torch.float64)
    # Without flat parts, where pooling has ties and so no derivative.
    images = (0.8 * digits.images[:4] + 0.2 * noise).requires_grad_()
    (slope,) = torch.autograd.grad(model(images)[:, 10].sum(), images)
    (bare,) = torch.autograd.grad(precise(images).amax(dim=1).sum(), images)
    direction = torch.randn(images.shape, generator=generator).double().sign()
    with torch.no_grad():
        ends = [model(images + side * 1e-6 * direction)[:, 10].sum() for side in (1, -1)]
    expected = (ends[0] - ends[1]) / 2e-6
    assert (slope * direction).sum().item() == pytest.approx(expected.item(), rel=1e-3)
    assert not torch.allclose(slope, bare)


def test_results_are_of_each_image_alone(classifier, digits):
    images = digits.images[:3]
    defence = LID()
    model = defence.behind(classifier)
    with torch.inference_mode():
        together = model(images)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)
    shown = images.clone().requires_grad_()  # after inference mode, a derivative still
    (slope,) = torch.autograd.grad(model(shown).sum(), shown)
    assert slope.isfinite().all()
    assert torch.equal(defence(images), images)
    assert pickle.loads(pickle.dumps(defence)) == defence
    assert not defence.is_randomised


def test_an_evaluation_counts_refusals(classifier, tmp_path):
    declared = Evaluation(
        dataset="digits",
        limit=12,
        batch=12,
        classifier="mnist-cnn",
        purifier=LID(),
        threats=(
            Threat(attack=PGD(eps=0.2, steps=3)),
            Threat(attack=PGD(eps=0.2, steps=10, loss=margin), gradient=Identity()),
        ),
    )
    recorded = run(declared, tmp_path / "run")
    model = LID().behind(classifier)
    refused = {}
    for row in recorded.rows:
        logits = model(recorded.images(row)["final"][None])
        found = int(logits.argmax())
        assert row.predictions == (REFUSED if found == 10 else found,)
        refused[row.attack] = refused.get(row.attack, 0) + (found == 10)
        fooled = int(read_by(model, logits, torch.tensor([row.label])).argmax()) != row.label
        assert fooled == (found not in (row.label, 10))
    assert max(refused.values()) > 0


def test_training_tells_what_it_was_shown_and_sets_the_threshold(classifier, digits, tmp_path):
    learnt = datasets.load("digits", "train").images[500:]
    made = train_lid(classifier, learnt, training_digits(), eps=0.2, count=300, refused=0.1, seed=4)
    model = LID(made).behind(classifier)
    share = (model(learnt[:300]).argmax(dim=1) == 10).float().mean()
    assert 0.03 < share < 0.2
    save_weights(made, tmp_path / "made.safetensors")
    again = load_lid(tmp_path / "made.safetensors")
    assert torch.equal(again.weight, made.weight)
    assert torch.equal(again.bias, made.bias)
    assert (tmp_path / "made.safetensors").stat().st_size < 1000


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: LID(detector="mine"), "detector is 'mine'"),
        (lambda: LIDDetector(torch.rand(20, 1, 4, 4)), "neighbours is 20 of 20"),
        (lambda: LID().behind(nn.Flatten())(torch.rand(1, 1, 28, 28)), "no ReLU"),
        (lambda: LID().behind(_two_layers())(torch.rand(1, 1, 28, 28)), "2 layers"),
        (lambda: LID().behind(_two_layers())(torch.rand(1, 3, 8, 8)), r"\(1, 3, 8, 8\)"),
        (lambda: load_lid("nowhere.safetensors"), "no detector at nowhere"),
        (lambda: train_lid(*_nothing_changes(), eps=0.1, count=4), "changes no class"),
    ],
)
def test_bad_arguments(make, names):
    with pytest.raises(InputError, match=names) as caught:
        make()
    assert "\n" not in str(caught.value)


def _two_layers():
    return nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(784, 10))


class Constant(nn.Module):
    """Logits that hardly depend on the images."""

    def forward(self, images):
        rise = 1e-3 * F.relu(images.mean(dim=(1, 2, 3)))
        return torch.stack([1 + rise, -rise], dim=1)


def _nothing_changes():
    images = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return nn.Sequential(nn.ReLU(), Constant()), images, images[:25]


def test_name():
    assert purifiers.load("lid") == LID()
