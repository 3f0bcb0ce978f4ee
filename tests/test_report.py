"""What a report says of its records: the summary, its notes, JSON."""

import json

import pytest

from evaluations import declare, numbers
from reports import BAD, BPDA, GOOD, GRAY, MIXED, html, markdown, record, settings, two_runs
from ridefense import InputError
from ridefense.evaluate import RUNS, run
from ridefense.experiments.blocks import matrix
from ridefense.pages import as_terminal
from ridefense.report import summary
from ridefense.results import Accuracy, clopper_pearson, read_results
from test_records import images, row


@pytest.fixture
def folder(tmp_path):
    return two_runs(tmp_path)


def labels(worst):
    return [attack.label for attack in worst.attacks]


def text(results, width=100):
    return as_terminal(summary(results), width)


def test_a_line_counts_draws_images_and_votes(folder):
    bare, ride = read_results(folder).attacks
    assert (bare.defence.short_title, ride.defence.short_title) == ("none", "RIDE")
    assert ride.clean.accuracy == Accuracy(3, 4)
    assert ride.accuracy == Accuracy(1.5, 4)
    assert ride.score.majority == Accuracy(1, 4)
    assert ride.score.worst == Accuracy(1, 4)
    assert ride.score.draws == 2
    assert ride.accuracy.interval == clopper_pearson(1.5, 4)
    assert bare.accuracy == Accuracy(0, 4)
    assert ride.distances == {"purified_final": 0.125, "final_clean": 0.0, "purified_clean": 0.25}
    assert ride.purify_seconds == 0.5


def test_clean_accuracy_no_better_than_a_guess_is_said_before_the_table(tmp_path):
    record(tmp_path, {"none": [BAD] * 4, "bpda": [BAD] * 4}, {"bpda": BPDA})
    results = read_results(tmp_path)
    for rendered in (text(results, 200), markdown(results), html(results)):
        assert 0 < rendered.index("no better than a guess") < rendered.index("BPDA, ")


def test_the_papers_figure_and_the_difference_stand_beside_ours(folder):
    bare, ride = read_results(folder).attacks
    assert ride.stated.accuracy == 0.98
    assert ride.difference == pytest.approx(0.375 - 0.98)
    assert bare.stated is None


def test_an_undefended_classifier_is_attacked_by_pgd_and_knows_everything(folder):
    bare, ride = read_results(folder).attacks
    assert (bare.short_title, bare.knows) == ("PGD, ℓ∞ 0.1", "everything")
    assert (ride.short_title, ride.knows) == ("BPDA, ℓ∞ 0.1", "classifier, purifier")
    assert not bare.is_gray_box


def test_every_rendering_says_what_a_figure_is_worth(tmp_path):
    attacked = {"none": [GOOD] * 4, "pgd": [GOOD, MIXED, BAD, BAD], "bpda": [GOOD] * 4}
    record(tmp_path, attacked, {"pgd": GRAY, "bpda": BPDA})
    results = read_results(tmp_path)
    assert [line.is_gray_box for line in results.attacks] == [True, False]
    interval = "[{:.1f}, {:.1f}]".format(*(100 * bound for bound in clopper_pearson(1.5, 4)))
    for rendered in (text(results, 200), markdown(results), html(results)):
        flat = " ".join(rendered.split())
        assert "Robust (upper bound)" in flat
        assert flat.count("not a robustness claim") >= 1
        assert interval in flat
        assert "37.5% ±" in flat
        assert "majority 25.0%" in flat
    claims = [r["robustness_claim"] for r in json.loads(results.to_json())["runs"][0]["results"]]
    assert claims == [False, True]


def test_the_worst_case_is_over_attacks_image_by_image(tmp_path):
    attacked = {
        "none": [GOOD] * 4,
        "a": [GOOD, BAD, MIXED, GOOD],
        "b": [BAD, GOOD, MIXED, GOOD],
        "far": [BAD] * 4,
    }
    attacks = {"a": BPDA, "b": {**BPDA, "name": "PGD Unrolled"}, "far": {**BPDA, "eps": 0.3}}
    results = read_results(record(tmp_path, attacked, attacks))
    (worst,) = results.worst_cases
    assert labels(worst) == ["a", "b"]
    assert worst.ball == "ℓ∞ 0.1"
    assert worst.accuracy == Accuracy(1.5, 4)
    assert "37.5%" in markdown(results).splitlines()[-1]


def test_the_worst_case_keeps_threat_models_apart(tmp_path):
    known = {**BPDA, "knows": "classifier, purifier, seed"}
    attacks = {
        "a": GRAY,
        "b": {**GRAY, "name": "FGSM"},
        "c": {**BPDA, "eps": 0.2},
        "d": {**known, "eps": 0.2},
        "e": {**BPDA, "eps": 0.2, "name": "FGSM Identity"},
        "f": {**GRAY, "eps": 0.2, "name": "UniformNoise", "attack": {"type": "UniformNoise"}},
    }
    right = {"a": GOOD, "b": MIXED, "c": GOOD, "d": BAD, "e": MIXED, "f": BAD}
    predictions = {"none": [GOOD] * 4} | {label: [draws] * 4 for label, draws in right.items()}
    blind, knowing = read_results(record(tmp_path, predictions, attacks)).worst_cases
    assert (labels(blind), blind.is_gray_box) == (["a", "b"], True)
    assert (labels(knowing), knowing.is_gray_box) == (["c", "e"], False)
    assert knowing.accuracy == Accuracy(2, 4)
    told = markdown(read_results(tmp_path)).splitlines()[-2:]
    assert [line.endswith("(not a robustness claim).") for line in told] == [True, False]
    cases = json.loads(read_results(tmp_path).to_json())["runs"][0]["worst_cases"]
    assert [case["robustness_claim"] for case in cases] == [False, True]
    assert [case["purifier_seed_known"] for case in cases] == [False, False]


def test_unfinished_attacks_do_not_shrink_the_worst_case(tmp_path):
    attacked = {"none": [GOOD] * 4, "a": [GOOD, BAD, BAD, BAD], "b": [MIXED] * 4, "c": [BAD] * 2}
    attacks = {"a": BPDA, "b": {**BPDA, "name": "PGD"}, "c": {**BPDA, "name": "APGD"}}
    results = read_results(record(tmp_path, attacked, attacks))
    (worst,) = results.worst_cases
    assert (labels(worst), worst.unfinished, worst.accuracy.n) == (["a", "b"], 1, 4)
    assert "the worst of 2 attacks on each (1 more are not finished)." in markdown(results)


def test_clean_images_alone_are_a_line(tmp_path):
    (line,) = read_results(record(tmp_path, {"none": [GOOD] * 4}, {})).attacks
    assert line.is_clean
    assert line.short_title == "no attack"
    assert line.accuracy == Accuracy(4, 4)
    assert "no attack" in text(read_results(tmp_path))


def test_an_unfinished_run_says_so_and_compares_the_same_images(tmp_path):
    record(tmp_path, {"none": [BAD, GOOD, GOOD], "bpda": [GOOD, GOOD]}, {"bpda": BPDA})
    (line,) = read_results(tmp_path).attacks
    assert line.accuracy == Accuracy(2, 2)
    assert line.clean.accuracy == Accuracy(1, 2)
    assert "of 4, unfinished" in " ".join(text(read_results(tmp_path), 160).split())


def test_clean_images_that_are_not_finished_are_counted_apart(tmp_path):
    record(tmp_path, {"none": [BAD, GOOD], "bpda": [GOOD, GOOD, BAD, BAD]}, {"bpda": BPDA})
    (line,) = read_results(tmp_path).attacks
    assert line.accuracy == Accuracy(2, 4)
    assert line.clean.accuracy == Accuracy(1, 2)
    assert "of 2" in markdown(read_results(tmp_path))


def test_an_experiment_s_row_has_the_papers_figures_and_each_attacks_own_n(tmp_path):
    short, whole = {**GRAY, "eps": 0.015}, {**GRAY, "name": "FGSM", "eps": 0.015}
    found = {"none": [GOOD, GOOD, BAD, BAD], "fgsm": [GOOD] * 4, "pgd": [GOOD, BAD]}
    record(tmp_path, found, {"pgd": short, "fgsm": whole}, name="imagenet")
    table = matrix("Gray box", read_results(tmp_path).attacks)
    ((defence, n, clean, pgd, fgsm, _),) = table.rows
    assert [c.title for c in table.columns[3:5]] == ["PGD, ℓ∞ 0.015", "FGSM, ℓ∞ 0.015"]
    assert (defence.text, n.value) == ("RIDE", 4)
    assert clean.notes[-2:] == ("paper 61.8%: +38.2", "other schedule")  # of PGD's two images
    assert "of 2" in pgd.notes
    assert "paper 47.6%: +2.4" in pgd.notes
    assert "other schedule, its ε not stated" in pgd.notes
    assert "paper 51.7%: +48.3" in fgsm.notes
    assert not any(note.startswith("of ") for note in fgsm.notes)
    ((*_, balls, _),) = matrix("White box", read_results(tmp_path).attacks, by_ball=True).rows
    assert not any("47.6%" in note for note in balls.notes)


def test_json_is_the_same_for_the_same_records_and_tells_no_time(folder):
    once = read_results(folder).to_json()
    assert once == read_results(folder).to_json()
    assert "seconds" not in once
    assert json.loads(once)["runs"][1]["results"][0]["robust"]["accuracy"] == 0.375


def test_json_is_the_same_after_a_resume(tmp_path):
    (tmp_path / "whole").mkdir()
    evaluation = declare(tmp_path)
    whole = run(evaluation, tmp_path / "whole" / "run")
    resumed = tmp_path / "resumed" / "run"
    run(evaluation, resumed)
    path = resumed / "records.jsonl"
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])  # torn in the middle
    assert numbers(run(evaluation, resumed).rows) == numbers(whole.rows)
    assert (
        read_results(tmp_path / "whole").to_json() == read_results(tmp_path / "resumed").to_json()
    )


@pytest.mark.parametrize("missing", ["dataset", "purifier", "seeds", "classifier"])
def test_a_run_json_without_what_a_report_needs_is_told(folder, missing):
    path = folder / "ride" / "run.json"
    declared = json.loads(path.read_text())
    del declared["settings"][missing]
    path.write_text(json.dumps(declared))
    with pytest.raises(InputError, match=r"run.json does not declare what a report needs"):
        read_results(folder)


def test_faults_and_refits_are_told(tmp_path):
    declared = {"settings": settings(), "versions": {}, "attacks": {}}
    with RUNS.open(tmp_path, declared) as records:
        records.append(row(0, faults=("purifier",), refits=2), images())
    told = markdown(read_results(tmp_path))
    assert "RIDE: the purified image had NaN" in told
    assert "clean images: 1 of 1 rows" in told
    assert "fits collapsed and were begun again (clean images: 2 fits)" in told
