"""Certificates against closed forms."""

import math

import pytest
import torch
from scipy.stats import binomtest, norm
from torch import nn

from ridefense import Defended, GaussianBlur, InputError, Median
from ridefense.certify import ABSTAIN, Smoothed, bounds
from ridefense.rivals import JPEG, ActivationPruning

SIGMA = 0.25


class Linear(nn.Module):
    """Class 1 where the pixels' weighted sum is above a threshold, else class 0."""

    def __init__(self, weights, threshold):
        super().__init__()
        self.register_buffer("weights", weights)
        self.threshold = threshold

    def forward(self, images):
        score = (images * self.weights).flatten(1).sum(1) - self.threshold
        return torch.stack((-score, score), dim=1)


@pytest.fixture(scope="module")
def problem():
    """A linear classifier, images, their labels and exact robust radii."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(1, 1, 4, 4, generator=generator)
    images = torch.rand(12, 1, 4, 4, generator=generator)
    scores = (images * weights).flatten(1).sum(1)
    threshold = scores.median().item()
    radii = (scores - threshold).abs() / weights.norm()
    return Linear(weights, threshold), images, (scores > threshold).long(), radii


def test_a_linear_classifiers_radius_is_never_exceeded_and_nearly_reached(problem):
    model, images, labels, exact = problem
    n = 2000
    found = Smoothed(model, SIGMA).certify(images, n=n)
    for certificate, label, radius in zip(found, labels.tolist(), exact.tolist(), strict=True):
        # A linear classifier's winning probability is Φ(radius / σ) (Cohen et al., Prop. 2).
        p = norm.cdf(radius / SIGMA)
        spread = math.sqrt(p * (1 - p) / n)
        reached = bounds.radius(bounds.lower_bound(int(n * max(0.0, p - 4 * spread)), n), SIGMA)
        assert certificate.radius <= radius
        assert certificate.radius >= reached
        assert certificate.prediction in (label, ABSTAIN)
    assert sum(not c.abstains for c in found) >= 9


def test_certificates_exceed_the_exact_radius_no_more_often_than_alpha():
    alpha, count, p = 0.1, 400, 0.8
    image = torch.full((1, 1, 2, 2), 0.5)
    exact = SIGMA * norm.ppf(p)
    # A linear classifier whose winning probability is p: the threshold is that far away.
    model = Linear(torch.ones(1, 1, 2, 2), 2.0 - 2 * exact)
    found = Smoothed(model, SIGMA).certify(
        image.expand(count, -1, -1, -1), n0=20, n=100, alpha=alpha, ids=range(count)
    )
    exceeding = sum(certificate.radius > exact for certificate in found)
    assert binomtest(exceeding, count, alpha, alternative="greater").pvalue > 1e-4
    assert exceeding > 0  # or the bound would be needlessly low


def test_predict_is_the_class_or_abstains_at_the_boundary(problem):
    model, images, labels, exact = problem
    found = Smoothed(model, SIGMA).predict(images, n=500)
    for prediction, label, radius in zip(found, labels.tolist(), exact.tolist(), strict=True):
        assert prediction in (label, ABSTAIN)
        assert prediction == label or radius < SIGMA / 2


def test_a_result_depends_on_seed_and_id_alone(problem):
    model, images, *_ = problem
    whole = Smoothed(model, SIGMA, batch=64).certify(images[:4], n=300, ids=[7, 8, 9, 10], seed=5)
    alone = Smoothed(model, SIGMA, batch=50).certify(images[2:3], n=300, ids=[9], seed=5)
    assert [alone[0].hits, alone[0].radius] == [whole[2].hits, whole[2].radius]
    other = Smoothed(model, SIGMA).certify(images[:4], n=300, ids=[7, 8, 9, 10], seed=6)
    assert [c.hits for c in other] != [c.hits for c in whole]


class Counting(nn.Module):
    """Remembers all images that it is shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return images.flatten(1)[:, :3]


def test_no_two_draws_share_their_noise():
    model, image = Counting(), torch.full((1, 1, 2, 2), 0.5)
    Smoothed(model, 1.0).certify(image, n0=50, n=400)
    draws = torch.cat(model.seen)
    assert len(draws.unique(dim=0)) == len(draws)
    noise = (draws - 0.5).double()
    assert noise.mean().abs() < 4 / math.sqrt(noise.numel())
    assert noise.std().item() == pytest.approx(1.0, abs=4 / math.sqrt(2 * noise.numel()))


def test_an_abstention_stops_early_and_stays_what_all_draws_would_have_found():
    model, image = Linear(torch.ones(1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), 0.5)
    (early,) = Smoothed(model, SIGMA, batch=100).certify(image, n=10_000)
    (late,) = Smoothed(model, SIGMA, batch=10_000).certify(image, n=10_000)
    assert early.abstains
    assert late.abstains
    assert early.drawn < late.drawn == 10_000


def test_what_the_first_draws_show_to_be_hopeless_is_not_counted():
    class Many(nn.Module):
        """Ten classes, which noise makes equally probable."""

        def forward(self, images):
            return images.flatten(1)[:, :10]

    image = torch.full((1, 1, 4, 4), 0.5)
    (found,) = Smoothed(Many(), SIGMA).certify(image, n0=100, n=10_000)
    assert found.abstains
    assert found.drawn == 0


def test_votes_are_those_that_certify_counts(problem):
    model, images, *_ = problem
    smoothed = Smoothed(model, SIGMA)
    votes = smoothed.votes(images[:3], n=300)
    assert votes.sum(dim=1).tolist() == [300] * 3
    for counts, found in zip(votes, smoothed.certify(images[:3], n=300), strict=True):
        assert found.abstains or counts[found.candidate] == found.hits


def test_raw_noise_reaches_the_filter_and_clipped_noise_does_not():
    seen = []

    class Watching(nn.Module):
        def forward(self, images):
            seen.append((images.min().item(), images.max().item()))
            return images.flatten(1)[:, :2]

    image = torch.full((1, 1, 8, 8), 0.5)
    Smoothed(Watching(), 1.0).certify(image, n0=10, n=20)
    assert min(low for low, _ in seen) < 0
    seen.clear()
    Smoothed(Watching(), 1.0, path="clipped").certify(image, n0=10, n=20)
    assert min(low for low, _ in seen) == 0
    seen.clear()
    Smoothed(Defended(Watching(), GaussianBlur(1.0)), 1.0).certify(image, n0=10, n=20)
    assert min(low for low, _ in seen) >= 0


def test_filtering_before_clipping_is_what_raw_means():
    image = torch.full((1, 1, 8, 8), 0.05)
    noisy = image + torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    raw = GaussianBlur(2.0).raw(noisy)
    clipped = GaussianBlur(2.0)(noisy.clamp(0, 1))
    assert (raw.mean() - 0.05).abs() < (clipped.mean() - 0.05).abs()


class After(nn.Module):
    """A classifier that is shown what a purifier makes of noise."""

    def __init__(self, model, defence):
        super().__init__()
        self.model, self.defence = model, defence

    def forward(self, images):
        return self.model(self.defence.raw(images))


@pytest.mark.parametrize("defence", [Median(3), GaussianBlur(0.5)])
def test_a_purifier_and_its_classifier_are_certified_as_one_function(problem, defence):
    model, images, *_ = problem
    found = Smoothed(Defended(model, defence), SIGMA).certify(images[:3], n=200)
    assert found == Smoothed(After(model, defence), SIGMA).certify(images[:3], n=200)
    assert found != Smoothed(model, SIGMA).certify(images[:3], n=200)


def test_a_defence_inside_a_classifier_is_certified():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    model = ActivationPruning().behind(network)
    (found,) = Smoothed(model, SIGMA).certify(torch.rand(1, 1, 8, 8), n=100)
    assert found.drawn <= 100


class Not(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :2].log()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda m, x: Smoothed(m, 0.0), "sigma is 0.0"),
        (lambda m, x: Smoothed(m, math.nan), "sigma is nan"),
        (lambda m, x: Smoothed(m, 0.5, path="hard"), "path is 'hard'"),
        (lambda m, x: Smoothed(m, 0.5, batch=0), "batch is 0"),
        (lambda m, x: Smoothed(m, 0.5).certify(x, n=5), "n is 5"),
        (lambda m, x: Smoothed(m, 0.5).certify(x, n0=0), "n0 is 0"),
        (lambda m, x: Smoothed(m, 0.5).certify(x, alpha=2), "alpha is 2"),
        (lambda m, x: Smoothed(m, 0.5).certify(x[0]), "shape"),
        (lambda m, x: Smoothed(Not(), 0.5).certify(x), "NaN"),
        (lambda m, x: Smoothed(Defended(m, JPEG()), 0.5), "JPEG"),
    ],
)
def test_what_cannot_be_certified_is_refused_in_one_line(problem, call, named):
    model, images, *_ = problem
    with pytest.raises(InputError, match=named) as caught:
        call(model, images)
    assert "\n" not in str(caught.value)
