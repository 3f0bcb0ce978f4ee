"""Accuracies with their uncertainty, from the predictions of several draws of each image."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np

from ridefense.errors import InputError


def clopper_pearson(correct: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a binomial proportion (Clopper and Pearson 1934).

    Args:
        correct: 0 ≤ correct ≤ n. It need not be an integer: an image may be right in a share of
            its draws. The beta quantiles interpolate, and n stays the number of images, because
            the draws of one image are not independent observations.
        n: at least 1.
        level: of confidence, between 0 and 1.

    Raises:
        InputError: for numbers outside those ranges.
    """
    from scipy.special import betaincinv  # scipy.stats takes seconds to import

    if not (n >= 1 and 0 <= correct <= n and 0 < level < 1):
        raise InputError(
            f"{correct} of {n} at level {level} has no interval; count at least 1 image"
        )
    tail = (1 - level) / 2
    low = betaincinv(correct, n - correct + 1, tail) if correct > 0 else 0.0
    high = betaincinv(correct + 1, n - correct, 1 - tail) if correct < n else 1.0
    return float(low), float(high)


def paired_interval(differences: Iterable[float], level: float = 0.95) -> tuple[float, float]:
    """The score interval of the mean of paired differences (Tango 1998).

    It is the interval of a difference of two proportions that were measured on the same images,
    exact enough for small n and for differences that are all 0. Differences of shares of draws
    vary less than those of single draws, so that for them it is wider than needed.

    Args:
        differences: one for each image, between -1 and 1; at least one.
        level: of confidence, between 0 and 1.

    Raises:
        InputError: for no or other differences, or another level.
    """
    values = list(differences)
    if not values or not all(-1 <= value <= 1 for value in values) or not 0 < level < 1:
        raise InputError(
            f"{len(values)} differences at level {level} have no interval; give at least one, "
            "each between -1 and 1"
        )
    n, z = len(values), statistics.NormalDist().inv_cdf((1 + level) / 2)
    gained, lost = sum(v for v in values if v > 0), -sum(v for v in values if v < 0)

    def above(mean: float) -> float:
        """How many deviations the sum lies above that of a true mean."""
        b = (2 * n - gained + lost) * mean - gained - lost
        root = math.sqrt(max(0.0, b * b + 8 * n * lost * mean * (1 - mean)))
        variance = n * ((root - b) / (2 * n) + mean * (1 - mean))
        distance = gained - lost - n * mean
        if variance <= 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / math.sqrt(variance)

    def root(target: float) -> float:
        low, high = -1.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if above(middle) > target else (low, middle)
        return (low + high) / 2

    return root(z), root(-z)


def sign_flip_test(differences: Iterable[float]) -> float:
    """The exact one-sided randomisation test of pairs (Fisher 1935).

    Its p-value is the probability of a sum at least as large if the sign of each difference were
    random. On pairs of right and wrong answers it is McNemar's exact test; on shares of draws it
    tests the difference of their means.

    Args:
        differences: one for each pair, multiples of a common fraction such as 1/5.
    """
    exact = [Fraction(value).limit_denominator(1000) for value in differences]
    unit = math.lcm(*(value.denominator for value in exact))
    sizes = [int(value * unit) for value in exact if value]
    chances, total = np.ones(1), sum(map(abs, sizes))
    for size, count in Counter(map(abs, sizes)).items():
        part = np.zeros(2 * size * count + 1)  # of the sums from -size·count to size·count
        part[:: 2 * size] = [math.comb(count, k) / 2**count for k in range(count + 1)]
        chances = np.convolve(chances, part)
    return float(np.clip(chances[total + sum(sizes) :].sum(), 0.0, 1.0))


@dataclass(frozen=True)
class Accuracy:
    """`correct` of `n` images; a sum of shares of draws, so it need not be an integer."""

    correct: float
    n: int

    @classmethod
    def of(cls, right: Iterable[float]) -> Self:
        """From whether each image is right, or from the share of its draws that are."""
        values = list(right)
        return cls(sum(values), len(values))

    @property
    def fraction(self) -> float:
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% Clopper-Pearson interval of the fraction."""
        return clopper_pearson(self.correct, self.n)


@dataclass(frozen=True)
class Score:
    """How a defence did on n images, each classified in several draws of its randomness.

    Attributes:
        mean: the expected accuracy of one draw.
        sd: standard deviation of the accuracy from draw to draw; 0 for a single one.
        worst: images that every draw got right.
        majority: images for which most draws, more than for any other class, agree on the label.
        draws: how many an image.
    """

    mean: Accuracy
    sd: float
    worst: Accuracy
    majority: Accuracy
    draws: int


def score(predictions: Sequence[Sequence[int]], labels: Sequence[int]) -> Score:
    """Score n images from k predictions each.

    Args:
        predictions: n lists of k classes, n and k at least 1.
        labels: n true classes.

    Raises:
        InputError: where there is nothing to score, or images have different numbers of draws.
    """
    draws = {len(row) for row in predictions}
    if len(draws) != 1 or 0 in draws or len(labels) != len(predictions):
        raise InputError(f"{len(predictions)} images with {sorted(draws)} draws; give all as many")
    n = len(labels)
    right = [[p == label for p in row] for row, label in zip(predictions, labels, strict=True)]
    by_draw = [sum(column) / n for column in zip(*right, strict=True)]
    votes = [elects(row, label) for row, label in zip(predictions, labels, strict=True)]
    (k,) = draws
    return Score(
        mean=Accuracy(sum(map(sum, right)) / k, n),
        sd=statistics.stdev(by_draw) if k > 1 else 0.0,
        worst=Accuracy(sum(map(all, right)), n),
        majority=Accuracy(sum(votes), n),
        draws=k,
    )


Draws = Mapping[int, Sequence[bool]]
"""For each image, which draws were classified right under an attack."""

Survival = Mapping[int, float]
"""For each image, the share of draws that were classified right."""


def worst(attacks: Sequence[Draws]) -> dict[int, float]:
    """For each image, the least share of right draws over the attacks.

    Images that an attack lacks are left out.
    """
    shared = set(attacks[0]).intersection(*attacks[1:]) if attacks else set()
    return {image: min(statistics.fmean(own[image]) for own in attacks) for image in sorted(shared)}


def picked(attacks: Sequence[Draws]) -> dict[int, float]:
    """As `worst`, without the bias of a minimum over noisy shares: the picked worst case.

    Each draw in turn is held out. The other draws choose the attack that leaves the fewest of them
    right (on ties, the one that is stronger over all images), and the draw that was held out says
    whether the image survives. With one draw, as of a deterministic defence or a known seed, this
    is `worst`.
    """
    ranked = sorted(attacks, key=lambda own: statistics.fmean(map(statistics.fmean, own.values())))
    found = {}
    for image, least in worst(attacks).items():
        draws = [own[image] for own in ranked]
        k = len(draws[0])
        if k == 1 or any(len(own) != k for own in draws):
            found[image] = least
            continue
        found[image] = sum(_held_out(draws, j) for j in range(k)) / k
    return found


def _held_out(draws: Sequence[Sequence[bool]], j: int) -> bool:
    """Draw j under the attack that leaves the fewest of the other draws right."""
    return min(draws, key=lambda own: sum(own) - own[j])[j]


def elects(votes: Iterable[int], label: int) -> bool:
    """Whether `label` has more votes than any other class; on a tie no class is elected."""
    counts = Counter(votes)
    own = counts.pop(label, 0)
    return own > max(counts.values(), default=0)


@dataclass(frozen=True)
class Comparison:
    """Two attacks on the same images: on how many the first left an image worse off, and better.

    Attributes:
        wins, losses, ties: images with a lower, a higher and the same survival under the first.
        p: the p-value of "the first is as strong": small where the first is significantly weaker.
        gain: the p-value of "the second is as strong": small where the first is stronger.
    """

    wins: int
    losses: int
    ties: int
    p: float
    gain: float


def compare(first: Survival, second: Survival) -> Comparison:
    """Survival under one attack against that under another, on the images that both have."""
    more = [first[image] - second[image] for image in sorted(first.keys() & second.keys())]
    return Comparison(
        wins=sum(d < 0 for d in more),
        losses=sum(d > 0 for d in more),
        ties=sum(d == 0 for d in more),
        p=sign_flip_test(more),
        gain=sign_flip_test(-d for d in more),
    )
