"""Rows of attacks to accuracies, worst cases, notes and exports."""

import csv
import io
import random
from dataclasses import replace

import pytest
from torch.nn import Flatten

from audits import attacked, bpda, case, frozen, gray, noise, queries, rows_of, transfer
from evaluations import GRAY, WHITE, declare
from ridefense import Defended, GaussianBlur, InputError
from ridefense.evaluate import CLEAN, UNREADABLE, run
from ridefense.results import (
    Accuracy,
    DefenceResult,
    RecordedThreat,
    Results,
    WorstCase,
    notes,
    read_results,
    warnings,
)
from ridefense.results.statistics import picked, worst


def together(*attacks):
    return WorstCase(attacks[0].defence, attacks)


def altered(result, change, label=None):
    """A result whose rows, of one attack or all, are changed."""
    rows = tuple(
        replace(row, **change) if label in (None, row.attack) else row for row in result.run.rows
    )
    return replace(result, run=replace(result.run, rows=rows))


# --- One attack ----------------------------------------------------------------------------------


def test_an_attack_by_hand():
    found = attacked(bpda(0.1), [5, 4, 0])
    assert found.survival == {0: 1.0, 1: 0.8, 2: 0.0}
    assert found.accuracy == Accuracy(1.8, 3)
    assert found.elected == {0: True, 1: True, 2: False}
    assert (found.norm, found.eps, found.ball) == ("Linf", 0.1, "ℓ∞ 0.1")
    assert (found.name, found.title) == ("BPDA", "BPDA, 10 steps")
    assert found.clean.accuracy == Accuracy(3, 3)
    assert found.is_finished


def test_clean_images_are_compared_on_the_images_that_were_attacked():
    result = case("ride", {bpda(0.1): [5, 0]}, clean=[5, 0, 0])
    (attack,) = result.every
    assert attack.clean.accuracy == Accuracy(1, 2)
    assert result.clean.accuracy == Accuracy(1, 3)
    assert not attack.is_finished


def test_images_without_every_seed_or_that_cannot_be_decoded_are_not_scored():
    result = case("ride", {bpda(0.1): [5, 5, 5]})
    label = bpda(0.1).label
    settings = result.run.settings | {"seeds": [0, 1]}
    again = [replace(row, seed=1) for row in result.run.rows if row.image > 0]
    unread = [
        replace(row, faults=(UNREADABLE,)) if row.image == 2 else row
        for row in (*result.run.rows, *again)
    ]
    result = replace(result, run=replace(result.run, rows=tuple(unread), settings=settings))
    assert list(result.attack(label).rows) == [1]
    assert (result.declared, result.expected, result.unreadable) == (3, 2, {2})


# --- Several attacks -----------------------------------------------------------------------------


def test_attacks_are_found_by_their_ball_and_their_knowledge():
    flat = gray(0.5)
    flat = replace(flat, attack=replace(flat.attack, norm="L2"))
    threats = [bpda(0.1), gray(0.1), noise(0.1), bpda(0.2), bpda(0.1, purifier_seed=7), flat]
    result = case("ride", {threat: [5, 5] for threat in threats}, unfinished=[frozen(0.1)])

    def labels(found):
        return [attack.label for attack in found]

    assert labels(result.at("Linf", 0.1)) == [bpda(0.1).label, gray(0.1).label]
    assert labels(result.at("L2", 0.5)) == [flat.label]
    assert labels(result.at("Linf", 0.1, seed_known=True)) == [bpda(0.1, purifier_seed=7).label]
    assert result.noise("Linf", 0.1).label == noise(0.1).label
    assert result.balls == [("L2", 0.5), ("Linf", 0.1), ("Linf", 0.2)]
    assert result.worst_case("Linf", 0.1).unfinished == 1
    assert result.worst_case("Linf", 0.3) is None
    cases = [(c.norm, c.eps, c.seed_known) for c in result.worst_cases]
    assert cases == [
        ("Linf", 0.1, False),
        ("Linf", 0.2, False),
        ("Linf", 0.1, True),
        ("L2", 0.5, False),
    ]


def test_the_worst_case_by_hand():
    first = attacked(bpda(0.1), [5, 5, 1, 3, 0])
    second = attacked(gray(0.1), [5, 2, 4, 3, 5])
    found = together(first, second)
    assert worst([first.right, second.right]) == {0: 1.0, 1: 0.4, 2: 0.2, 3: 0.6, 4: 0.0}
    assert found.minimum.correct == pytest.approx(2.2)
    assert found.majority == Accuracy(2, 5)
    assert found.strongest is first


def test_an_image_that_one_attack_lacks_is_in_no_worst_case():
    first, second = attacked(bpda(0.1), [5, 5, 5]), attacked(gray(0.1), [0, 0])
    assert worst([first.right, second.right]) == {0: 0, 1: 0}
    assert worst([]) == picked([]) == {}


def test_the_picked_worst_case_by_hand():
    """Draws TTTFF and TTTTF: whichever is held out, the others choose the first or tie."""
    assert together(attacked(bpda(0.1), [3]), attacked(gray(0.1), [4])).survival == {0: 0.6}
    # Two against two, but one draw each is wrong, at the same place: held out, nothing tells them
    # apart; the stronger over all images is taken.
    alone = together(attacked(bpda(0.1), [4, 0]), attacked(gray(0.1), [4, 5]))
    assert alone.survival == {0: 0.8, 1: 0.0}


def test_picking_takes_no_advantage_of_luck():
    """Ten attacks that do nothing to a defence that errs in one of five draws, at random places."""
    chance = random.Random(0)
    draws = [
        {image: [chance.random() < 0.8 for _ in range(5)] for image in range(400)}
        for _ in range(10)
    ]
    assert Accuracy.of(picked(draws).values()).fraction == pytest.approx(0.8, abs=0.03)
    assert Accuracy.of(worst(draws).values()).fraction < 0.6


def test_results_on_some_images_are_as_if_there_were_no_others():
    result = case("ride", {bpda(0.1): [5, 0, 0], gray(0.1): [5, 5, 0]})
    labels = [bpda(0.1).label, gray(0.1).label]
    some = result.only({labels[0]: [0, 1], labels[1]: [1], CLEAN: [0, 1]})
    assert [some.attack(label).accuracy for label in labels] == [Accuracy(1, 2), Accuracy(1, 1)]
    assert some.attack(labels[0]).is_finished
    assert some.expected == 2


# --- What a reader must know ---------------------------------------------------------------------


def of_classes(labels, predictions=None):
    """A result on images of these classes, of which a constant classifier makes 3, or as given."""
    made = case("ride", {bpda(0.1): [5] * len(labels)})
    rows = tuple(
        replace(row, label=labels[row.image], predictions=((predictions or {}).get(row.image, 3),))
        for row in made.run.rows
    )
    return replace(made, run=replace(made.run, rows=rows))


def test_chance_is_the_best_constant_guess_and_at_least_a_random_one():
    assert of_classes([3] * 10 + [1, 2]).chance == 10 / 12
    assert of_classes(list(range(10)) * 2).chance == 1 / 10


@pytest.mark.parametrize(
    "labels",
    [
        [3] * 10 + [1] * 10,
        [3] * 17 + [1, 2, 4],
        [4, 5, 6, 7, 8, 9],
        list(range(10)),
        [3] + [1] * 30,
    ],
)
def test_clean_accuracy_no_better_than_a_guess_is_warned_of(labels):
    (told,) = warnings([of_classes(labels)])
    assert told.startswith("RIDE: clean accuracy")


def test_sound_results_are_not_warned_of():
    labels = [3, 3, 3, 1, 1, 2]
    sound = of_classes(labels, dict(enumerate(labels)))
    empty = replace(sound, run=replace(sound.run, rows=()))
    assert not list(warnings([sound, of_classes([3] * 60), of_classes([3, 1, 1]), empty]))


def test_notes_tell_faults_refits_and_images_that_did_not_move():
    threats = {bpda(0.1): [5, 5, 0], queries(0.1): [5, 5, 5]}
    result = altered(case("ride", threats), {"linf": 0.1})
    assert notes(result.every) == []
    square = queries(0.1).label
    result = altered(result, {"linf": 0.0, "refits": 2}, square)
    result = altered(result, {"faults": ("eps",)}, bpda(0.1).label)
    told = notes(result.every)
    assert len(told) == 3
    joined = " ".join(told)
    assert "further from the clean one than ε (BPDA, 10 steps at ℓ∞ 0.1: 3 of 3 rows)" in joined
    assert "at ℓ∞ 0.1: 3 of 3 images" in joined
    assert "6 fits" in joined


# --- Recorded attacks ----------------------------------------------------------------------------


def test_recorded_attacks_are_values():
    source = Defended(Flatten(), GaussianBlur(2.0))
    found = RecordedThreat.of(transfer(0.1, source, steps=50).settings())
    assert (found.type, found.crafted["type"], found.number("steps")) == ("Transfer", "PGD", 50)
    assert found.source["purifier"]["sigma"] == 2.0
    assert not found.is_white_box
    assert RecordedThreat.of(bpda(0.1).settings()).is_white_box
    assert RecordedThreat.of(queries(0.1).settings()).asks == "queries"
    assert RecordedThreat.of(noise(0.1).settings()).is_noise


@pytest.mark.parametrize("missing", ["name", "knows", "asks", "norm", "eps", "attack"])
def test_an_incomplete_attack_is_refused(missing):
    recorded = bpda(0.1).settings()
    del recorded[missing]
    with pytest.raises(InputError, match=missing):
        RecordedThreat.of(recorded)
    result = case("ride", {bpda(0.1): [5]})
    broken = replace(result.run, attacks={"pgd": recorded})
    with pytest.raises(InputError, match=r"run\.json"):
        DefenceResult.of("ride", broken)


# --- Out -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    run(declare(folder, threats=(GRAY, WHITE)), folder / "run")
    return folder


@pytest.mark.slow
def test_csv_and_pandas_have_the_same_numbers(folder):
    results = read_results(folder)
    lines = list(csv.DictReader(io.StringIO(results.to_csv())))
    table = results.to_pandas()
    assert list(table.columns) == list(lines[0])
    for line, (_, row), attack in zip(lines, table.iterrows(), results.attacks, strict=True):
        assert float(line["accuracy"]) == row["accuracy"] == attack.accuracy.fraction
        assert (float(line["low"]), float(line["high"])) == attack.accuracy.interval
        assert line["attack"] == row["attack"] == attack.title


def test_rows_come_out_as_they_are_recorded(folder):
    (result,) = read_results(folder).defences
    for attack in (result.clean, *result.every):
        table = attack.to_pandas()
        assert list(table["image"]) == list(attack.rows)
        assert table["survival"].mean() == pytest.approx(attack.accuracy.fraction)
    assert len(result.to_pandas()) == 1 + len(result.every)


def test_nothing_comes_out_of_nothing():
    assert Results(()).to_csv() == ""
    assert rows_of("none", []) == []
