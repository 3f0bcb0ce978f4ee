import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from ridefense import InputError
from ridefense.results import Accuracy, clopper_pearson, score, sign_flip_test

counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.9, 0.95, 0.99]))
def test_interval_is_scipys_exact_one(count, level):
    correct, n = count
    expected = binomtest(correct, n).proportion_ci(level, method="exact")
    found = clopper_pearson(correct, n, level)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.integers(1, 200), st.integers(1, 9), st.data())
def test_interval_of_a_mean_over_draws_lies_between_its_neighbours(n, draws, data):
    few, many = sorted(data.draw(st.tuples(*[st.integers(0, n * draws)] * 2)))
    lower, upper = Accuracy(few / draws, n).interval, Accuracy(many / draws, n).interval
    assert lower[0] <= upper[0] + 1e-9
    assert lower[1] <= upper[1] + 1e-9
    assert lower[0] <= few / draws / n <= lower[1]


@pytest.mark.parametrize(("correct", "n", "level"), [(1, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95)])
def test_what_is_no_share_is_refused(correct, n, level):
    with pytest.raises(InputError, match=f"{correct} of {n}"):
        clopper_pearson(correct, n, level)


def test_score_of_three_images_by_hand():
    #        always right, right twice of three, one vote each: a tie elects nobody
    found = score([[1, 1, 1], [2, 2, 0], [3, 4, 5]], [1, 2, 3])
    assert found.mean == Accuracy((3 + 2 + 1) / 3, 3)
    assert found.worst == Accuracy(1, 3)
    assert found.majority == Accuracy(2, 3)
    # The draws are right on 3, 2 and 1 of 3 images: shares 1, 2/3, 1/3.
    assert found.sd == pytest.approx(1 / 3)
    assert found.draws == 3


def test_a_vote_needs_more_than_any_other_class_not_half():
    assert score([[7, 7, 1, 2, 3]], [7]).majority.correct == 1
    assert score([[7, 7, 1, 1, 3]], [7]).majority.correct == 0


@given(st.lists(st.tuples(st.lists(st.integers(0, 3), min_size=3, max_size=3), st.integers(0, 3))))
def test_worst_is_at_most_mean_and_majority(cases):
    if not cases:
        return
    found = score([c[0] for c in cases], [c[1] for c in cases])
    assert found.worst.correct <= min(found.mean.correct + 1e-12, found.majority.correct)


def test_images_with_different_numbers_of_draws_are_refused():
    with pytest.raises(InputError, match="give all as many"):
        score([[1, 2], [1]], [1, 1])


def test_sign_flips_of_right_and_wrong_are_mcnemars_exact_test():
    for wins, losses, ties in ((5, 0, 3), (3, 4, 0), (0, 6, 1), (20, 8, 100)):
        pairs = [1.0] * wins + [-1.0] * losses + [0.0] * ties
        tail = binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue
        assert sign_flip_test(pairs) == pytest.approx(tail)
    assert sign_flip_test([]) == sign_flip_test([0.0]) == 1


@given(st.lists(st.integers(-5, 5), max_size=9), st.sampled_from([1, 3, 5]))
def test_sign_flips_are_all_counted(sizes, draws):
    """Against every assignment of signs."""
    flips = itertools.product((-1, 1), repeat=len(sizes))
    sums = [sum(f * abs(d) for f, d in zip(flip, sizes, strict=True)) for flip in flips]
    share = sum(s >= sum(sizes) for s in sums) / len(sums)
    assert sign_flip_test([d / draws for d in sizes]) == pytest.approx(share)


def test_sign_flips_weigh_how_much_an_image_lost():
    """Many small losses of a defence that errs now and then do not outweigh a few whole ones."""
    better, worse = [-0.2] * 60, [1.0] * 20  # 80 images: 8 more right by the mean
    assert sign_flip_test(better + worse) < 0.05
    assert sign_flip_test([-d for d in better + worse]) > 0.95


def test_sign_flips_of_ten_thousand_images_are_quick():
    pairs = [0.2] * 2600 + [-0.2] * 2400 + [0.6, -0.6] * 2500
    normal = norm.sf((sum(pairs) - 0.2) / math.sqrt(sum(d * d for d in pairs)))
    assert sign_flip_test(pairs) == pytest.approx(normal, rel=0.01)
