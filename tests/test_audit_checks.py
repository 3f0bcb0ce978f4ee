from dataclasses import replace

import pytest
from torch.nn import Flatten

from audits import (
    bpda,
    case,
    findings,
    frozen,
    gray,
    noise,
    one_step,
    queries,
    transfer,
)
from ridefense import Defended, GaussianBlur
from ridefense.audit.checks import (
    broken_is_broken,
    convergence,
    iterative,
    more_draws,
    more_restarts,
    more_steps,
    noise_is_weakest,
    sanity,
    vanishing,
    white_over_black,
)
from ridefense.results import compare

STRONG, MIDDLING, WEAK = [0] * 12, [2] * 12, [5] * 12


def subject(found, **more):
    return findings(case("ride", found), **more)


@pytest.mark.parametrize(
    ("check", "right_way", "wrong_way"),
    [
        (iterative, {one_step(0.1): WEAK, bpda(0.1): STRONG},
         {one_step(0.1): STRONG, bpda(0.1): WEAK}),
        (white_over_black, {bpda(0.1): STRONG, queries(0.1): WEAK},
         {bpda(0.1): WEAK, queries(0.1): STRONG}),
        (white_over_black, {bpda(0.1): STRONG, gray(0.1): MIDDLING},
         {bpda(0.1): MIDDLING, gray(0.1): STRONG}),
        (noise_is_weakest, {noise(0.1): WEAK, gray(0.1): STRONG},
         {noise(0.1): MIDDLING, gray(0.1): WEAK}),
        (more_steps, {bpda(0.1): WEAK, bpda(0.1, steps=100): STRONG},
         {bpda(0.1): STRONG, bpda(0.1, steps=100): WEAK}),
        (more_restarts, {bpda(0.1): WEAK, bpda(0.1, restarts=5): STRONG},
         {bpda(0.1): STRONG, bpda(0.1, restarts=5): WEAK}),
        (more_draws, {frozen(0.1): WEAK, frozen(0.1, eot=20): MIDDLING},
         {frozen(0.1): MIDDLING, frozen(0.1, eot=20): WEAK}),
        (vanishing, {bpda(0.5): STRONG}, {bpda(0.5): WEAK}),
    ],
)  # fmt: skip
def test_a_check_passes_and_fails_by_the_records(check, right_way, wrong_way):
    good, bad = check(subject(right_way)), check(subject(wrong_way))
    assert (good.outcome, bad.outcome) == ("passed", "failed")
    assert good.name == bad.name
    assert good.sentence != bad.sentence
    assert good.numbers.keys() == bad.numbers.keys()


def test_the_best_guess_is_the_class_that_most_images_have():
    found = subject({bpda(0.5): [3] * 12}, radii=(0.5,))
    assert found.chance == 2 / 12
    assert vanishing(found).outcome == "failed"
    labels = [3] * 10 + [1, 2]  # a defence that makes every image a 3 keeps ten of twelve
    rows = tuple(replace(row, label=labels[row.image]) for row in found.subject.run.rows)
    found = replace(
        found, subject=replace(found.subject, run=replace(found.subject.run, rows=rows))
    )
    assert found.chance == 10 / 12
    assert vanishing(found).outcome == "passed"


def test_a_broken_defence_that_holds_fails_the_harness():
    bare = case("none", {gray(0.1): [4] * 12, gray(0.3): STRONG}, purifier="Unchanged")
    ride = case("ride", {bpda(0.1): WEAK})
    breaks = case("jpeg", {bpda(0.1): WEAK, bpda(0.3): [0] * 11 + [5]}, purifier="JPEG")
    holds = case("jpeg", {bpda(0.1): STRONG, bpda(0.3): [0] * 9 + [5] * 3}, purifier="JPEG")
    found = broken_is_broken(findings(ride, bare, breaks))
    assert (found.outcome, found.numbers["eps"]) == ("passed", 0.3)
    assert broken_is_broken(findings(ride, bare, holds)).outcome == "failed"
    standing = case("none", {gray(0.3): WEAK}, purifier="Unchanged")
    assert broken_is_broken(findings(ride, standing, breaks)).outcome == "not run"


def test_what_is_not_finished_is_not_passed():
    checks = sanity(subject({bpda(0.1): STRONG}))
    assert {check.outcome for check in checks} == {"not run"}
    assert len({check.name for check in checks}) == 8


def test_luck_does_not_fail_a_check():
    """Two images the wrong way round and one the right way are no evidence."""
    few = {one_step(0.1): [5, 3, 3] + [5] * 9, bpda(0.1): [2, 4, 4] + [5] * 9}
    assert iterative(subject(few)).outcome == "passed"


def test_checks_compare_only_what_differs_in_one_setting():
    """A single step of one gradient says nothing about ten of another, nor one ε of the next."""
    found = {one_step(0.1): STRONG, frozen(0.1): WEAK, bpda(0.2): WEAK, bpda(0.1, eot=5): WEAK}
    assert iterative(subject(found)).outcome == "not run"
    assert more_steps(subject(found)).outcome == "not run"
    assert more_draws(subject(found)).outcome == "not run"


def test_many_comparisons_need_more_evidence():
    """Five images of five the wrong way round: p = 1/32, enough alone, not among two."""
    weaker = {bpda(0.1): [4] * 5, bpda(0.1, steps=100): [5] * 5}
    assert more_steps(subject(weaker)).outcome == "failed"
    more = weaker | {bpda(0.1, steps=1000): [5] * 5}
    assert more_steps(subject(more)).outcome == "not run"
    six = {threat: [*right, right[0]] for threat, right in more.items()}
    assert more_steps(subject(six)).outcome == "failed"
    last = {**six, bpda(0.1): [5, *six[bpda(0.1)][1:]]}
    assert more_steps(subject(last)).outcome == "passed"


def test_compare_counts_images():
    first, second = {0: 0.0, 1: 0.4, 2: 1.0, 3: 0.5}, {0: 1.0, 1: 0.6, 2: 0.8, 3: 0.5, 4: 1.0}
    found = compare(first, second)
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    assert found.gain == pytest.approx(3 / 8)  # shares count, not images: -1, -0.2, 0.2
    assert found.p == pytest.approx(7 / 8)


def test_whether_more_would_find_more_is_told():
    short, long = bpda(0.1), bpda(0.1, steps=100)
    (rising,) = convergence(subject({short: WEAK, long: MIDDLING}))
    assert "raised 1 time; the last rise found more in 1 (BPDA, 100 steps at ℓ∞ 0.1" in rising
    assert "100.0% to 40.0%), so more may find more" in rising
    (still,) = convergence(subject({short: MIDDLING, long: MIDDLING}))
    assert still.endswith("found no more.")
    assert not list(convergence(subject({short: MIDDLING})))


def test_a_transfers_steps_are_a_ladder_where_its_source_is_the_same():
    blurred, other = (Defended(Flatten(), GaussianBlur(sigma)) for sigma in (1.0, 2.0))
    strong, weak = (
        {transfer(0.1, blurred): first, transfer(0.1, blurred, steps=50): then}
        for first, then in ((WEAK, STRONG), (STRONG, WEAK))
    )
    assert more_steps(subject(strong)).outcome == "passed"
    assert more_steps(subject(weak)).outcome == "failed"
    apart = {transfer(0.1, blurred): STRONG, transfer(0.1, other, steps=50): WEAK}
    assert more_steps(subject(apart)).outcome == "not run"
