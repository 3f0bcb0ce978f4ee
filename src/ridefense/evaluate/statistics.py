"""Accuracies with their uncertainty, from the predictions of several draws an image."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np
from scipy.signal import convolve
from scipy.stats import beta, binom

from ridefense.errors import InputError


def clopper_pearson(correct: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a binomial share (Clopper and Pearson 1934).

    Args:
        correct: 0 ≤ correct ≤ n. A mean over draws of an image may be no whole number: the beta
            quantiles go on between them, and n stays the number of images, so that an image's
            draws, which are not independent, count as one observation.
        n: at least 1.
        level: of confidence, between 0 and 1.

    Raises:
        InputError: for numbers outside those ranges.
    """
    if not (n >= 1 and 0 <= correct <= n and 0 < level < 1):
        raise InputError(f"{correct} of {n} at level {level} is no share; count at least 1 image")
    tail = (1 - level) / 2
    low = beta.ppf(tail, correct, n - correct + 1) if correct > 0 else 0.0
    high = beta.ppf(1 - tail, correct + 1, n - correct) if correct < n else 1.0
    return float(low), float(high)


def sign_flip_test(differences: Iterable[float]) -> float:
    """The chance of so large a sum, or a larger one, if every sign were a coin's (Fisher 1935).

    The exact one-sided randomisation test of pairs. On pairs of right and wrong answers it is
    McNemar's exact test; of shares of draws it tests the difference of their means.

    Args:
        differences: of each pair, multiples of a common fraction such as 1/5.
    """
    exact = [Fraction(value).limit_denominator(1000) for value in differences]
    unit = math.lcm(*(value.denominator for value in exact))
    sizes = [int(value * unit) for value in exact if value]
    chances, total = np.ones(1), sum(map(abs, sizes))
    for size, count in Counter(map(abs, sizes)).items():
        part = np.zeros(2 * size * count + 1)  # of the sums from -size·count to size·count
        part[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = convolve(chances, part)
    return float(np.clip(chances[total + sum(sizes) :].sum(), 0.0, 1.0))


@dataclass(frozen=True)
class Accuracy:
    """`correct` of `n` images; the mean over draws where it is no whole number."""

    correct: float
    n: int

    @classmethod
    def of(cls, right: Iterable[float]) -> Self:
        """Of images that are right or not, or right in a share of their draws."""
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
"""Of each image, which draws were classified right under an attack."""


def worst(attacks: Sequence[Draws]) -> dict[int, float]:
    """Of each image, the share of draws that were right under whichever attack left the least."""
    shared = set(attacks[0]).intersection(*attacks[1:]) if attacks else set()
    return {image: min(statistics.fmean(own[image]) for own in attacks) for image in sorted(shared)}


def picked(attacks: Sequence[Draws]) -> dict[int, float]:
    """The same without the luck of the draw: k - 1 draws choose the attack, the other one scores.

    The least of many noisy shares is lower than any attack made it. Here each draw in turn is left
    out, the attack with the fewest survivals among the others is chosen (of equals the one that is
    stronger over all images), and the draw that was left out says whether the image survived. One
    draw is all there is of a deterministic defence, and of one whose seed is known; then this is
    `worst`.
    """
    ranked = sorted(attacks, key=lambda own: statistics.fmean(map(statistics.fmean, own.values())))
    found = {}
    for image, least in worst(attacks).items():
        draws = [own[image] for own in ranked]
        k = len(draws[0])
        if k == 1 or any(len(own) != k for own in draws):
            found[image] = least
            continue
        chosen = [min(draws, key=lambda own, j=j: sum(own) - own[j])[j] for j in range(k)]
        found[image] = sum(chosen) / k
    return found


def elects(votes: Iterable[int], label: int) -> bool:
    """Whether `label` has more votes than any other class; a tie elects nobody."""
    counts = Counter(votes)
    own = counts.pop(label, 0)
    return own > max(counts.values(), default=0)
