"""The statistics of randomised smoothing (Cohen, Rosenfeld and Kolter 2019)."""

import math

from ridefense.errors import InputError

_HOPELESS = 1e-9

DIGITS = 6
"""Decimals that a radius is rounded down to."""


def lower_bound(hits: int, n: int, alpha: float = 0.001) -> float:
    """The one-sided Clopper-Pearson lower bound of a binomial probability.

    With probability at least 1 - `alpha` over the n draws, it does not exceed the true one.

    Args:
        hits: successes, 0 ≤ hits ≤ n.
        n: independent draws, at least 1.
        alpha: the probability of error, 0 < alpha < 1.

    Raises:
        InputError: for numbers outside these ranges.
    """
    from scipy.stats import beta

    if not (n >= 1 and 0 <= hits <= n):
        raise InputError(f"{hits} of {n} draws is no count; use 0 ≤ hits ≤ n with n of at least 1")
    check_alpha(alpha)
    return float(beta.ppf(alpha, hits, n - hits + 1)) if hits else 0.0


def is_hopeless(hits: int, draws: int) -> bool:
    """Whether a class with so few of the draws cannot have more than half of the probability.

    A class that has half gets as few hits with a chance below 1e-9. To abstain by it is sound
    whatever the chance, since an abstention certifies nothing.
    """
    from scipy.stats import binom

    return float(binom.cdf(hits, draws, 0.5)) < _HOPELESS


def radius(probability: float, sigma: float) -> float:
    """The ℓ2 radius σ·Φ⁻¹(p) within which the prediction is constant (Theorem 1), rounded down.

    Args:
        probability: a lower bound of the winning class's probability.
        sigma: standard deviation of the noise, in [0, 1] pixels.

    Returns:
        The radius in [0, 1] pixels; 0 where the probability does not exceed 1/2.
    """
    from scipy.stats import norm

    if probability <= 0.5:
        return 0.0
    return rounded_down(sigma * float(norm.ppf(probability)))


def rounded_down(value: float, digits: int = DIGITS) -> float:
    """The largest multiple of 10^-digits that is not above `value`."""
    scale = float(10**digits)
    found: int = math.floor(value * scale)
    return found / scale if found / scale <= value else (found - 1) / scale


def largest_radius(n: int, sigma: float, alpha: float = 0.001) -> float:
    """The radius where all n draws agree: no more can be certified with so many."""
    return radius(lower_bound(n, n, alpha), sigma)


def draws_for(target: float, sigma: float, alpha: float = 0.001) -> int:
    """The fewest draws that can certify a radius above `target`, where all agree.

    Args:
        target: a radius in [0, 1] pixels, at least 0.
    """
    from scipy.stats import norm

    check_alpha(alpha)
    # All of n draws agree: the bound is alpha^(1/n), which has to exceed Φ(target / σ).
    return math.floor(math.log(alpha) / float(norm.logcdf(target / sigma))) + 1


def differ(first: int, second: int, alpha: float = 0.001) -> bool:
    """Whether the two most frequent classes differ in probability: PREDICT's two-sided test."""
    from scipy.stats import binomtest

    return first > 0 and float(binomtest(first, first + second, 0.5).pvalue) <= alpha


def check_alpha(alpha: float) -> None:
    """Refuse what is no probability of error.

    Raises:
        InputError: for what does not lie between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha!r}; use a probability of error as 0.001")
