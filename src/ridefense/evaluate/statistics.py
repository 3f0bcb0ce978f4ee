"""Accuracies with their uncertainty, from the predictions of several draws an image."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from scipy.stats import beta, binomtest

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


def sign_test(wins: int, losses: int) -> float:
    """The chance of at least so many wins where wins and losses are equally likely.

    One-sided; on pairs of right and wrong answers it is McNemar's exact test. Ties are left out.

    Raises:
        InputError: for numbers below 0.
    """
    if min(wins, losses) < 0:
        raise InputError(f"{wins} wins and {losses} losses; count from 0")
    if not wins + losses:
        return 1.0
    return float(binomtest(wins, wins + losses, alternative="greater").pvalue)


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
    votes = [_elects(row, label) for row, label in zip(predictions, labels, strict=True)]
    (k,) = draws
    return Score(
        mean=Accuracy(sum(map(sum, right)) / k, n),
        sd=statistics.stdev(by_draw) if k > 1 else 0.0,
        worst=Accuracy(sum(map(all, right)), n),
        majority=Accuracy(sum(votes), n),
        draws=k,
    )


def _elects(votes: Iterable[int], label: int) -> bool:
    """Whether `label` has more votes than any other class; a tie elects nobody."""
    counts = Counter(votes)
    own = counts.pop(label, 0)
    return own > max(counts.values(), default=0)
