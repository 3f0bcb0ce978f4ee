"""The statistics of randomised smoothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm

from ridefense.certify import bounds
from ridefense.errors import InputError


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_bound_is_the_lower_end_of_scipys_exact_one_sided_interval(counts):
    hits, n = counts
    test = binomtest(hits, n, alternative="greater")
    expected = test.proportion_ci(confidence_level=0.999, method="exact").low
    assert bounds.lower_bound(hits, n, 0.001) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("p", [0.5, 0.51, 0.8, 0.99, 0.9999])
def test_the_bound_exceeds_the_true_probability_at_most_as_often_as_it_says(p):
    n, alpha = 200, 0.05
    chances = binom.pmf(np.arange(n + 1), n, p)
    wrong = [bounds.lower_bound(hits, n, alpha) > p for hits in range(n + 1)]
    assert chances[wrong].sum() <= alpha


def test_simulated_draws_keep_the_bound_below_the_true_probability():
    n, p, alpha, runs = 100, 0.7, 0.1, 2000
    hits = np.random.default_rng(0).binomial(n, p, runs)
    wrong = sum(bounds.lower_bound(int(h), n, alpha) > p for h in hits)
    assert binomtest(wrong, runs, alpha, alternative="greater").pvalue > 1e-4


@pytest.mark.parametrize(("n", "deviations"), [(1000, 2.46), (10_000, 3.20), (100_000, 3.81)])
def test_unanimous_draws_certify_the_published_multiples_of_sigma(n, deviations):
    assert bounds.largest_radius(n, 1.0) == pytest.approx(deviations, abs=0.005)


@given(st.floats(0.5, 1, exclude_min=True, exclude_max=True), st.floats(0.01, 5))
def test_a_radius_is_rounded_down(p, sigma):
    found, exact = bounds.radius(p, sigma), sigma * norm.ppf(p)
    assert found <= exact
    assert exact - found <= 2e-6


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5])
def test_a_class_that_may_not_be_the_majority_has_no_radius(p):
    assert bounds.radius(p, 0.5) == 0.0


@given(st.floats(0, 4), st.floats(0.1, 1), st.floats(1e-4, 0.1))
def test_the_fewest_draws_reach_a_radius_and_one_fewer_do_not(deviations, sigma, alpha):
    n = bounds.draws_for(deviations * sigma, sigma, alpha)
    reach = [norm.ppf(alpha ** (1 / m)) for m in (n, max(1, n - 1))]
    assert reach[0] > deviations - 1e-6
    assert n == 1 or reach[1] <= deviations + 1e-6


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_what_is_given_up_had_almost_no_chance_of_a_majority(counts):
    hits, n = counts
    chance = binomtest(hits, n, 0.5, alternative="less").pvalue
    assert bounds.is_hopeless(hits, n) == (chance < 1e-9)
    if 2 * hits >= n:
        assert not bounds.is_hopeless(hits, n)


def test_two_classes_differ_as_the_two_sided_binomial_test_has_it():
    assert not bounds.differ(50, 50)
    assert not bounds.differ(0, 0)
    assert bounds.differ(90, 10)
    assert bounds.differ(60, 40, alpha=0.06) == (binomtest(60, 100).pvalue <= 0.06)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: bounds.lower_bound(11, 10), "11 of 10"),
        (lambda: bounds.lower_bound(0, 0), "0 of 0"),
        (lambda: bounds.lower_bound(5, 10, 1.0), "alpha is 1.0"),
        (lambda: bounds.draws_for(0.5, 0.5, math.nan), "alpha is nan"),
    ],
)
def test_numbers_out_of_range_are_refused(call, named):
    with pytest.raises(InputError, match=named):
        call()
