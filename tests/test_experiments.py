"""Experiments as declarations: cases, sharing, what is left out, what it will cost."""

import json
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch

from evaluations import TINY, WHITE, numbers, weights
from ridefense import InputError, Median, RideError, Unchanged
from ridefense.attacks import FGSM, PGD
from ridefense.evaluate import Evaluation, Threat, read, run
from ridefense.experiments import (
    EXPERIMENTS,
    SCALES,
    Experiment,
    Setup,
    carry_out,
    cost,
    declare,
    gather,
    merge,
    planned,
    run_folder,
    seconds,
    write,
    write_index,
)
from ridefense.experiments.blocks import accuracies
from ridefense.experiments.page import compose
from ridefense.gradients import Identity


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def made(classifier):
    """Makes an evaluation of four digits in chunks of two."""

    def make(purifier=Unchanged(), threats=(), **changes):  # noqa: B008 (it is frozen)
        settings = {"limit": 4, "batch": 2, "draws": 2} | changes
        given = {"dataset": "digits", "classifier": classifier} | settings
        return Evaluation(purifier=purifier, threats=threats, **given)

    return make


def experiment(cases, name="table-0"):
    return Experiment(
        name=name,
        source="Table 0",
        title="Nothing of the paper",
        text="",
        cases=lambda setup: cases,
        compose=lambda records: [accuracies("All", records.attacks())],
    )


# --- Declarations --------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_a_name_means_the_same_evaluation_in_every_experiment(scale):
    """But for its attacks; two evaluations do not share a name, nor a folder."""
    setup, known = Setup.at(scale), {}
    for one in EXPERIMENTS.values():
        for name, evaluation in one.cases(setup).items():
            plain = replace(evaluation, threats=())
            assert known.setdefault(name, plain) == plain, (one.name, name)
    assert len({name.lower() for name in known}) == len(known) > 60
    assert all(name == name.lower() and "/" not in name for name in known)


@pytest.mark.parametrize("scale", SCALES)
def test_attacks_of_a_case_have_labels_of_their_own(scale):
    for one in EXPERIMENTS.values():
        for evaluation in one.cases(Setup.at(scale)).values():
            assert len(evaluation.attacks) == len(evaluation.threats)


def test_experiments_are_known_by_their_names():
    assert all(name == one.name for name, one in EXPERIMENTS.items())
    assert len({one.source + one.title for one in EXPERIMENTS.values()}) == len(EXPERIMENTS)


def test_merged_cases_have_the_attacks_of_all():
    setup = Setup.at("laptop")
    parts = [one.cases(setup) for one in EXPERIMENTS.values()]
    merged = merge(parts)
    for part in parts:
        for name, evaluation in part.items():
            assert evaluation.attacks.items() <= merged[name].attacks.items()
    total = {n: set().union(*(p[n].attacks for p in parts if n in p)) for n in merged}
    assert {name: set(evaluation.attacks) for name, evaluation in merged.items()} == total
    only = {"imagenet-none": EXPERIMENTS["text-clean"].cases(setup)["imagenet-none"]}
    assert not only["imagenet-none"].threats
    both = merge([EXPERIMENTS["table-4"].cases(setup), only])
    assert len(both["imagenet-none"].threats) == 4


def test_a_lab_plays_other_data_sets_and_classifiers():
    setup = Setup.at("laptop", {"cifar10": "folder"}, {"imagenet": "timm:some"}, "cuda")
    assert setup.sources["cifar10"] == replace(SCALES["laptop"]["cifar10"], dataset="folder")
    assert setup.sources["imagenet"] == replace(
        SCALES["laptop"]["imagenet"], classifier="timm:some"
    )
    assert setup.sources["mnist"] == SCALES["laptop"]["mnist"]
    assert Setup.at("laptop").sources == SCALES["laptop"]  # which is as it was
    cases = EXPERIMENTS["table-2"].cases(setup)
    assert {e.dataset for n, e in cases.items() if n.startswith("cifar10")} == {"folder"}
    assert {e.device for e in cases.values()} == {"cuda"}
    assert cases["imagenet-bpda-median-3"].classifier == "timm:some"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("hugo",), "scale is 'hugo'; use one of smoke, laptop, paper"),
        (("smoke", {"hugo": "mnist"}), "dataset of 'hugo'; use one of mnist, cifar10, imagenet"),
        (("smoke", {}, {"hugo": "x"}), "classifier of 'hugo'; use one of"),
    ],
)
def test_a_lab_refuses_what_it_does_not_know(arguments, told):
    with pytest.raises(InputError, match=told):
        Setup.at(*arguments)


# --- Sharing -------------------------------------------------------------------------------------

CALLS = Counter()


@dataclass(frozen=True, kw_only=True)
class Counted(PGD):
    """PGD that counts its calls by the model that it attacks."""

    def __call__(self, model, images, labels, **keys):
        CALLS[type(model).__name__] += 1
        return super().__call__(model, images, labels, **keys)


@pytest.mark.slow
def test_a_gray_box_attack_is_run_once_for_all_cases(made, tmp_path):
    gray = Threat(attack=Counted(eps=0.2, steps=2))
    white = Threat(attack=Counted(eps=0.1, steps=2), gradient=Identity())
    cases = {
        name: made(purifier, (gray, white))
        for name, purifier in {"none": Unchanged(), "median": Median(3), "ride": TINY}.items()
    }
    CALLS.clear()
    carry_out(cases, tmp_path / "shared")
    assert CALLS == {"Classifier": 2, "Defended": 3 * 2}  # two chunks
    for name, evaluation in cases.items():
        alone = run(evaluation, tmp_path / "alone" / name)
        shared = read(run_folder(tmp_path / "shared", name))
        assert shared.attacks == alone.attacks
        assert shared.settings == alone.settings
        assert numbers(shared.rows) == numbers(alone.rows)
        for a, b in zip(shared.rows, alone.rows, strict=True):
            assert torch.equal(shared.images(a)["final"], alone.images(b)["final"])
    CALLS.clear()
    carry_out(cases, tmp_path / "shared")
    assert not CALLS


def test_what_is_shared_is_of_one_classifier_and_one_data_set(made, tmp_path):
    gray = (Threat(attack=Counted(eps=0.2, steps=2)),)
    others = {"a": made(threats=gray), "b": made(threats=gray, classifier="digits-cnn")}
    CALLS.clear()
    carry_out(others, tmp_path)
    assert CALLS == {"Classifier": 4}
    found = {name: read(run_folder(tmp_path, name)) for name in others}
    finals = [r.images(r.rows[-1])["final"] for r in found.values()]
    assert not torch.equal(*finals)


# --- What is planned, and what cannot be run -----------------------------------------------------


def test_what_is_planned_and_not_finished_is_told(made, tmp_path):
    gray = (Threat(attack=FGSM(eps=0.1)),)
    one = experiment({"begun": made(Median(3), gray), "later": made(threats=gray)})
    cases = declare(one, Setup.at("smoke"), tmp_path)
    carry_out({"begun": replace(cases["begun"], threats=())}, tmp_path)
    n = cases["begun"].limit
    assert write(one, tmp_path).missing == {
        "begun": f"FGSM, ℓ∞ 0.1: 0 of {n} images",
        "later": "not begun",
    }
    carry_out(cases, tmp_path)
    assert not write(one, tmp_path).missing


def test_what_lacks_weights_or_data_is_left_out_and_told(made, tmp_path):
    gray = (Threat(attack=FGSM(eps=0.1)),)
    one = experiment(
        {
            "sound": made(Median(3), gray),
            "weightless": made(threats=gray, classifier="no <i>|such.safetensors"),
            "dataless": made(threats=gray, dataset="nowhere"),
        }
    )
    assert not planned(one, tmp_path)
    cases = declare(one, Setup.at("smoke"), tmp_path)
    assert list(cases) == ["sound"]
    carry_out(cases, tmp_path)
    page = write(one, tmp_path)
    assert list(page.missing) == ["weightless", "dataless"]
    assert len(compose(one, page).tables[0].rows) == 1
    markdown = (tmp_path / "table-0" / "report.md").read_text()
    html = (tmp_path / "table-0" / "report.html").read_text()
    for text in (markdown, html):
        assert "Not run" in text
        assert "weightless: no weights at no &lt;i&gt;" in text
        assert "dataless: no data set" in text
    write_index(tmp_path, [one])
    assert "weightless, dataless" in (tmp_path / "report.md").read_text()
    assert [line.defence.name for line in gather(one, tmp_path).attacks()] == ["sound"]


def test_nothing_that_can_be_run_is_a_page_too(made, tmp_path):
    one = experiment({"dataless": made(dataset="nowhere")})
    assert declare(one, Setup.at("smoke"), tmp_path) == {}
    assert not write(one, tmp_path).cases


def test_only_the_experiments_own_attacks_are_in_its_table(made, tmp_path):
    threats = tuple(Threat(attack=FGSM(eps=eps)) for eps in (0.1, 0.2))
    both, first = (experiment({"none": made(threats=t)}) for t in (threats, threats[:1]))
    clean = experiment({"none": made()})
    carry_out(declare(both, Setup.at("smoke"), tmp_path), tmp_path)
    for one, labels in ((both, threats), (first, threats[:1])):
        declare(one, Setup.at("smoke"), tmp_path)
        found = [line.label for line in gather(one, tmp_path).attacks()]
        assert found == [threat.label for threat in labels]
    declare(clean, Setup.at("smoke"), tmp_path)
    assert [line.label for line in gather(clean, tmp_path).attacks()] == ["none"]


def test_a_folder_is_of_one_scale(made, tmp_path):
    one, other = (experiment({"none": made()}, name) for name in ("table-0", "figure-0"))
    declare(one, Setup.at("smoke"), tmp_path)
    for again in (one, other):
        with pytest.raises(InputError, match="holds scale smoke, not laptop; choose another"):
            declare(again, Setup.at("laptop"), tmp_path)
    assert not planned(other, tmp_path)


@pytest.mark.parametrize("plan", [b"", b"[]", b"{}", b"\xff", b'{"scale": 1}'])
def test_a_damaged_plan_is_told(made, tmp_path, plan):
    one = experiment({"none": made()})
    declare(one, Setup.at("smoke"), tmp_path)
    (tmp_path / "table-0" / "plan.json").write_bytes(plan)
    for work in (lambda: declare(one, Setup.at("smoke"), tmp_path), lambda: gather(one, tmp_path)):
        with pytest.raises(
            InputError, match=r"plan\.json is no plan .*; delete it and run ridefense"
        ):
            work()


def test_a_damaged_run_is_told(made, tmp_path):
    one = experiment({"none": made()})
    carry_out(declare(one, Setup.at("smoke"), tmp_path), tmp_path)
    path = tmp_path / "runs" / "none" / "run.json"
    declared = json.loads(path.read_text())
    del declared["settings"]["purifier"]["type"]
    path.write_text(json.dumps(declared))
    with pytest.raises(InputError, match=r"run\.json does not declare what a report needs"):
        gather(one, tmp_path)


def test_what_cannot_be_written_is_told(made, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RideError, match="cannot write to"):
        declare(experiment({"none": made()}), Setup.at("smoke"), tmp_path / "file")


# --- Cost ----------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A purification takes 100 s, a gradient of the classifier 1 s."""
    monkeypatch.setattr(cost, "_of_purifier", lambda *_: 100.0)
    monkeypatch.setattr(cost, "_of_gradient", lambda *_: 1.0)


def test_cost_counts_what_is_run(made, tmp_path, clock):
    # Of 4 images: a draw each, and its classification.
    assert seconds({"a": made(Median(3))}, tmp_path) == 4 * 101
    assert seconds({"a": made(TINY)}, tmp_path) == 4 * 2 * 101
    gray = made(Median(3), (Threat(attack=PGD(eps=0.1, steps=3)),))
    purified = 4 * (100 + 100) + 4 * 100  # clean and final, and these rounded to 8 bits
    assert seconds({"a": gray}, tmp_path) == purified + 4 * 1 + 4 * (1 + 2 * 3)
    assert seconds({"a": replace(gray, rounded=False)}, tmp_path) == purified - 4 * 100 + 4 * 8
    bpda = Threat(attack=PGD(eps=0.1, steps=3, eot=5), gradient=Identity())
    white = seconds({"a": made(Median(3), (bpda,))}, tmp_path)
    assert white == 4 * 101 + 4 * (100 * (1 + 1 + 15) + 1 + 2 * 15)


def test_cost_adds_up_and_grows_with_images(made, tmp_path, clock):
    cases = {"a": made(Median(3), (WHITE,)), "b": made(TINY, (WHITE,))}
    each = [seconds({name: evaluation}, tmp_path) for name, evaluation in cases.items()]
    assert seconds(cases, tmp_path) == sum(each)
    larger = {name: replace(evaluation, limit=12) for name, evaluation in cases.items()}
    assert seconds(larger, tmp_path) == 3 * sum(each)


def test_cost_is_of_what_is_left(made, tmp_path, clock):
    cases = {"a": made(Median(3), (WHITE,))}
    whole = seconds(cases, tmp_path)
    carry_out({"a": made(Median(3))}, tmp_path)
    assert seconds(cases, tmp_path) == whole - 4 * 101
    carry_out(cases, tmp_path)
    assert seconds(cases, tmp_path) == 0
    path = run_folder(tmp_path, "a") / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    dropped = next(line for line in lines if json.loads(line).get("attack") == WHITE.label)
    path.write_bytes(b"".join(line for line in lines if line != dropped))
    assert seconds(cases, tmp_path) == (whole - 4 * 101) / 4


@pytest.mark.parametrize("jitter", [1.0, 0.9, 1.1])
@pytest.mark.parametrize("each", [0.0001, 0.1])
def test_cost_sees_steps_that_a_fit_s_beginning_hides(monkeypatch, jitter, each):
    """A fit of TINY that begins in 10 ms, measured to a tenth."""

    def few(_purifier, _image, steps):
        return 0.01 if steps == 1 else jitter * (0.01 + each * (steps - 1))

    monkeypatch.setattr(cost, "_few", few)
    long = replace(TINY, steps=2000, rounds=5)
    expected = 0.01 + each * 10_000
    assert cost._of_purifier(long, torch.zeros(1, 1, 28, 28)) == pytest.approx(expected, rel=0.2)


def test_cost_is_measured(made, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "_ENOUGH", 0.02)
    few, many = (seconds({"a": made(TINY, limit=n)}, tmp_path) for n in (4, 400))
    assert 0 < few < 60
    assert 20 < many / few < 500
