import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ridefense.audit
from digits import QUICK
from evaluations import numbers, weights
from ridefense import GaussianBlur, InputError, Median
from ridefense.attacks import AutoAttack, dlr
from ridefense.audit import (
    BUDGETS,
    Audit,
    Budget,
    carry_out,
    gather,
    plan,
    sanity,
    verdicts,
    write,
)
from ridefense.audit.threats import purifications
from ridefense.cli import main
from ridefense.evaluate import Here, read
from ridefense.imagefiles import save_image

SCANT = Budget(
    steps=(10, 40),
    eot=(1,),
    frozen=(1,),
    held=(10,),
    step_sizes=(0.5,),
    restarts=(1, 2),
    truncated=(),
    unrolled=0,
    apgd=5,
    directions=2,
    queries=5,
    decisions=0,
    autoattack=False,
    targets=1,
    imitated=0,
)


def small(**changes):
    settings = {
        "dataset": "digits",
        "classifier": "digits-cnn",
        "name": "median",
        "purifier": Median(3),
        "radii": (0.4,),
        "budget": SCANT,
        "curve": (0.5,),
        "limit": 6,
        "batch": 6,
    }
    return Audit(**(settings | changes))


@pytest.fixture(scope="module")
def median(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    carry_out(small(), folder)
    return folder


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"classifier": torch.nn.Flatten()}, "classifier is a Flatten; name it.*module:function"),
        ({"dataset": [1]}, "dataset is a list; name it"),
        ({"budget": "quick"}, r"budget is 'quick'; use BUDGETS\['quick'\]"),
        ({"radii": 0.2}, r"radii are 0\.2; give a tuple"),
        ({"purifier": "median"}, "purifier is 'median'; pass a callable"),
        ({"beside": {"x": lambda images: images}}, "let it accept all three"),
        ({"name": "jpeg"}, "two runs of the audit are named 'jpeg'; rename one"),
        ({"hardened": ("a/m.safetensors", "b/m.safetensors")}, "are named 'm'"),
    ],
)
def test_parts_that_cannot_be_audited_are_told_when_it_is_declared(change, told):
    parts = {
        "dataset": "digits",
        "classifier": "digits-cnn",
        "name": "median",
        "purifier": Median(3),
        "radii": (0.1,),
        "budget": BUDGETS["quick"],
    }
    with pytest.raises(InputError, match=told):
        Audit(**parts | change)


@pytest.mark.slow
def test_a_known_broken_defence_is_broken(median):
    found = gather(median)
    assert len(found.to_csv().splitlines()) > len(found.defences)
    (verdict,) = verdicts(found)
    assert found.subject.clean.accuracy.correct >= 5
    assert verdict.conclusion == "no robustness left"
    assert verdict.left.correct == 0
    outcomes = {check.name: check.outcome for check in sanity(found)}
    assert outcomes["a defence that is known to be broken breaks"] == "passed"
    assert outcomes["accuracy falls to that of a guess as ε grows"] == "passed"
    assert "failed" not in outcomes.values()


@pytest.mark.slow
def test_the_page_is_written_from_records_alone(median):
    page = write(median)
    assert page.headline[0].startswith("median 3 at ℓ∞ 0.4: no robustness left. 0.0%")
    first = [(median / name).read_bytes() for name in ("audit.html", "audit.md")]
    write(median)
    assert [(median / name).read_bytes() for name in ("audit.html", "audit.md")] == first
    assert (median / "survivors-against-eps.svg").read_text().startswith("<svg")
    assert b"nothing is missing" not in first[1]
    assert "What is missing" not in first[1].decode()


def links(path):
    """Where a page's links to other pages lead; all of them must be there."""
    targets = re.findall(r'<a href="([^"#]+)"', path.read_text())
    found = {(path.parent / target).resolve() for target in targets}
    assert all(target.is_file() for target in found), found
    return found


def test_every_attack_opens_its_images_and_leads_back(median):
    write(median)
    page, subject = median / "audit.html", gather(median).subject
    audited = [attack for attack in subject.attacks if attack.threat.ball == ("Linf", 0.4)]
    images = {median / "median" / "attacks" / f"{attack.label}.html" for attack in audited}
    runs = {median / name / "report.html" for name in ("none", "jpeg", "median")}
    assert links(page) == images | runs
    for path in images:
        assert links(path) == {page}
        assert "perturbation ×" in path.read_text()
    for path in runs:
        assert page in links(path)
    assert ".html" not in (median / "audit.md").read_text()


@pytest.mark.slow
def test_an_interrupted_audit_goes_on_to_the_same_records(median, tmp_path):
    def until(doing, done, total):
        if doing.startswith("median: BPDA"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(small(), tmp_path, until)
    before = gather(tmp_path)
    assert before.subject.unfinished
    assert any("not finished" in line for line in write(tmp_path).headline)
    carry_out(small(), tmp_path)
    for name in ("none", "jpeg", "median"):
        assert numbers(read(tmp_path / name).rows) == numbers(read(median / name).rows)


@pytest.mark.slow
def test_all_the_work_is_given_to_the_workers(tmp_path):
    given = []

    class Noted(Here):
        def map(self, evaluation, chunks, progress=None):
            given.extend(chunks)
            return super().map(evaluation, chunks, progress)

    carry_out(small(curve=(), limit=2, batch=2), tmp_path, workers=Noted())
    rows = [row for name in ("none", "jpeg", "median") for row in read(tmp_path / name).rows]
    assert 2 * sum(map(len, given)) == len(rows)


@pytest.mark.slow
def test_a_radius_may_be_added_but_not_another_defence(tmp_path):
    audit = small(limit=2, batch=2, curve=())
    carry_out(audit, tmp_path)
    carry_out(replace(audit, radii=(0.1,)), tmp_path)
    assert gather(tmp_path).balls == (("Linf", 0.1), ("Linf", 0.4))
    with pytest.raises(InputError, match="audits median, not blur"):
        carry_out(replace(audit, name="blur", purifier=GaussianBlur(1.0)), tmp_path)


def test_folders_that_are_no_audit_are_refused(tmp_path, median):
    with pytest.raises(InputError, match=r"audit\.json"):
        gather(tmp_path)
    (tmp_path / "audit.json").write_text("[]")
    with pytest.raises(InputError, match=r"audit\.json"):
        gather(tmp_path)
    declared = json.loads((median / "audit.json").read_text())
    (tmp_path / "audit.json").write_text(json.dumps(declared))
    with pytest.raises(InputError, match="no finished clean images"):
        gather(tmp_path)
    for radii, told in (
        ((), r"radii are \(\)"),
        ((0.1, -1.0), "eps is 0.1, -1; use numbers above 0"),
    ):
        with pytest.raises(InputError, match=told):
            small(radii=radii)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"subject": "median"}', '"planned": {', "null"])
def test_a_damaged_audit_is_told(tmp_path, median, damage):
    whole = (median / "audit.json").read_text()
    torn = whole.replace(damage, damage[:-1] + "[", 1) if "planned" in damage else damage
    (tmp_path / "audit.json").write_text(torn)
    for work in (lambda: gather(tmp_path), lambda: carry_out(small(), tmp_path)):
        with pytest.raises(InputError, match=r"audit\.json cannot be read"):
            work()


def test_a_damaged_run_or_surrogate_is_told(tmp_path, median):
    shutil.copytree(median, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "median" / "run.json"
    declared = json.loads(path.read_text())
    del declared["settings"]["seeds"]
    path.write_text(json.dumps(declared))
    with pytest.raises(InputError, match="does not declare what a report needs"):
        gather(tmp_path)
    (tmp_path / "ride.surrogate-1-0.4.safetensors").write_bytes(b"torn")
    scant = replace(SCANT, imitated=1)
    with pytest.raises(InputError, match="delete it, and it is learnt anew"):
        carry_out(small(purifier=QUICK, name="ride", budget=scant), tmp_path)


def test_cheap_attacks_come_first_on_all_defences(tmp_path):
    audit = small(beside={"blur": GaussianBlur(1.0)}, purifier=QUICK, name="ride")
    declared = dict(audit.evaluations())
    order = []

    class Noting(Here):
        def map(self, work, chunks, progress=None):
            for unit in chunks:
                order.extend((list(declared)[n], chunk.attack) for n, chunk in unit)
                yield unit, work.compute(unit)

    carry_out(audit, tmp_path, workers=Noting())
    attacks = [(name, declared[name].attacks.get(attack)) for name, attack in order]
    gray = [a for _, a in attacks if a is not None and a.gradient is None]
    costs = [
        -1 if threat is None else purifications(threat, declared[name].purifier)
        for name, threat in attacks
        if threat not in gray
    ]
    assert costs == sorted(costs)
    assert [name for name, threat in attacks[:4]] == ["none", "jpeg", "blur", "ride"]
    assert set(order) >= {("ride", label) for label in declared["ride"].attacks}


def test_a_hardened_classifier_stands_beside_by_its_file_name(tmp_path):
    file = tmp_path / "cnn-adv0.1.safetensors"
    file.write_bytes(Path(weights(tmp_path)).read_bytes())
    audit = small(hardened=(str(file),))
    assert "cnn-adv0.1" in dict(audit.evaluations())
    assert audit.declared({})["hardened"] == ["cnn-adv0.1"]


def three():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))


@pytest.fixture
def colours(tmp_path):
    """A folder of 12 images of three classes, and no training split."""
    for label in range(3):
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        for i in range(4):
            image = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(10 * label + i))
            save_image(image, tmp_path / "data" / str(label) / f"{i}.png")
    return str(tmp_path / "data")


@pytest.mark.parametrize("budget", ["small", "full"])
def test_few_classes_get_the_attacks_that_they_allow(colours, budget):
    own = {"dataset": colours, "classifier": f"{__name__}:three", "budget": BUDGETS[budget]}
    evaluation = dict(small(**own).evaluations())["median"]
    attacks = [threat.attack for threat in evaluation.threats]
    assert any(getattr(attack, "loss", None) is dlr for attack in attacks)
    assert all(getattr(attack, "targets", 0) == 0 for attack in attacks)  # which wants four
    assert not any(isinstance(attack, AutoAttack) for attack in attacks)


def test_without_a_training_split_the_surrogate_learns_from_the_other_images(colours, tmp_path):
    scant = replace(SCANT, imitated=100, steps=(10,))
    own = {"dataset": colours, "classifier": f"{__name__}:three", "budget": scant}
    ride = replace(QUICK, steps=2, rounds=2)
    audit = small(**own, purifier=ride, name="ride", limit=7, curve=())
    learnt = plan._not_audited(audit)
    audited, _ = dict(audit.evaluations())["ride"].load()
    assert (len(learnt), len(audited)) == (5, 7)
    assert not {*learnt.ids.tolist()} & {*audited.ids.tolist()}
    assert plan._surrogate(replace(audit, limit=12), tmp_path, ride) is None


def test_a_randomised_defence_gets_a_surrogate_learnt_once(tmp_path):
    quick = replace(QUICK, steps=2, rounds=2)
    scant = replace(SCANT, imitated=4, steps=(10,), queries=2, held=(10,))
    audit = small(purifier=quick, name="ride", budget=scant, limit=2, batch=2, draws=2, curve=())
    carry_out(audit, tmp_path)
    learnt = (tmp_path / "ride.surrogate-4-0.4.safetensors").read_bytes()
    rows = len(read(tmp_path / "ride").rows)
    carry_out(audit, tmp_path)
    assert (tmp_path / "ride.surrogate-4-0.4.safetensors").read_bytes() == learnt
    assert len(read(tmp_path / "ride").rows) == rows
    case = gather(tmp_path).subject
    assert "PGD Surrogate, 10 steps" in {attack.title for attack in case.attacks}
    assert not case.unfinished
    known = case.at("Linf", 0.4, seed_known=True)
    assert {len(row.predictions) for a in known for r in a.rows.values() for row in r} == {1}


def test_the_command_exits_with_3_where_a_check_fails(monkeypatch, capsys, tmp_path):
    """Its records say that the attacks broke the bare classifier, and not what is broken."""
    monkeypatch.setattr(ridefense.audit, "CURVE", ())
    monkeypatch.setitem(BUDGETS, "small", SCANT)
    made = ("audit", "--classifier", weights(tmp_path), "--purifier", "blur:1", "--images", "2")
    out = tmp_path / "out"

    def call(*more):
        asked = (*made, *more, "--eps", "0.3", "--out", str(out))
        monkeypatch.setattr(sys, "argv", ["ridefense", *asked])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capsys.readouterr()

    def rewrite(name, right):
        path = out / name / "records.jsonl"
        rows = [replace(r, predictions=(r.label if right else -1,)) for r in read(path.parent).rows]
        path.write_bytes(b"".join(row.line() for row in rows))

    _, told = call()
    assert "Gaussian blur 1" in told.out
    assert "wrote" in told.err
    assert {path.name for path in out.glob("*-adv*")} == {"digits-cnn-adv0.3"}
    call("--hardened", "mnist-cnn-adv0.2")
    assert {path.name for path in out.glob("mnist-*")} == {"mnist-cnn-adv0.2"}
    rewrite("none", right=False)
    rewrite("jpeg", right=True)
    code, told = call()
    assert code == 3
    assert "failed: a defence that is known to be broken" in told.out
    rewrite("jpeg", right=False)
    _, told = call()
    assert "passed: a defence that is known to be broken" in told.out
