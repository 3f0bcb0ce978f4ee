"""What identifies a result, and that what is published stays readable and resumable."""

import dataclasses
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from evaluations import TINY
from published import unpack
from ridefense import DAE, DIP, IDIP, RIDE, Defended, GaussianBlur, InputError, Median, classifiers
from ridefense.attacks import APGD, FGSM, NES, PGD, AutoAttack, HeldWeights, Square, Transfer
from ridefense.attacks import margin as margin_loss
from ridefense.describe import describe
from ridefense.evaluate import (
    CLEAN,
    Evaluation,
    Threat,
    find,
    identity,
    migrations,
    protocol,
    read,
    run,
)
from ridefense.evaluate.provenance import versions
from ridefense.experiments import EXPERIMENTS
from ridefense.experiments.scales import Setup
from ridefense.gradients import FrozenWeights, Identity, Surrogate, Truncated, Unrolled, imitator
from ridefense.rivals import JPEG, BitDepth

HERE = Path(__file__).parent
PUBLISHED = HERE.parent / "docs" / "records"


@dataclass(frozen=True)
class Dim:
    """A purifier of a user's."""

    by: float = 0.5

    def __call__(self, images, ids=None, seed=0):
        return self.by * images


@dataclass(frozen=True, kw_only=True)
class Patient(PGD):
    """An attack of a user's on top of one of ridefense."""

    patience: int = 3


def attacks():
    digits = classifiers.load("digits-cnn")
    return [
        PGD(eps=0.1),
        PGD(eps=0.1, steps=40, loss=margin_loss, step_size=0.01),
        FGSM(eps=8 / 255),
        APGD(eps=0.5, norm="L2", eot=5),
        HeldWeights(eps=0.1, purifier_seed=7, eot=1),
        NES(eps=0.1),
        AutoAttack(eps=0.1, version="rand"),
        Square(eps=0.1, queries=100),
        Patient(eps=0.1, restarts=2),
        Transfer(source=digits, attack=PGD(eps=0.1)),
        Transfer(source=Defended(digits, DAE.preset("fast", network="mnist")), attack=FGSM(eps=1)),
    ]


GRADIENTS = [
    None,
    Identity(),
    Truncated(20),
    Unrolled(),
    FrozenWeights(),
    Surrogate(imitator(1, 4)),
]
PURIFIERS = [
    *(kind.preset(name, network="mnist") for kind in (RIDE, DAE) for name in ("paper", "fast")),
    IDIP.preset("released", network="cifar10"),
    DIP.preset("paper", network="imagenet"),
    TINY,
    Median(),
    Median(5),
    GaussianBlur(2.0),
    JPEG(),
    BitDepth(1),
    Dim(),
    Dim(0.25),
]


# --- Writing and reading --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [*attacks(), *GRADIENTS, *PURIFIERS], ids=lambda v: type(v).__name__
)
def test_what_is_written_is_read_with_all_settings(value):
    written = json.loads(json.dumps(identity.identity(value)))
    assert identity.expanded(written) == json.loads(json.dumps(describe(value)))


def test_only_what_differs_from_the_defaults_is_written():
    assert identity.identity(PGD(eps=0.1)) == {"type": "PGD", "eps": 0.1}
    assert identity.identity(FGSM(eps=0.1)) == {"type": "FGSM", "eps": 0.1}
    assert identity.identity(PGD(eps=0.1, steps=40)) == {"type": "PGD", "eps": 0.1, "steps": 40}
    assert identity.identity(Median()) == {"type": "Median"}
    assert identity.identity(Unrolled()) == {"type": "Unrolled"}
    assert identity.identity(None) is None


def test_classes_of_others_are_written_in_full_for_their_defaults_may_change():
    assert identity.identity(Dim()) == {"type": "Dim", "by": 0.5}
    written = identity.identity(Patient(eps=0.1))
    assert written == {"type": "Patient", "base": "PGD", "eps": 0.1, "patience": 3}


def test_a_class_with_the_name_of_one_of_ridefense_is_refused():
    mine = dataclasses.make_dataclass("Median", [("kernel", int, 3)], frozen=True)
    with pytest.raises(InputError, match="Median"):
        identity.identity(mine())


def test_what_cannot_be_told_from_others_is_refused():
    for value in (object(), PGD(eps=0.1, loss=lambda logits, labels, targets=None: logits)):
        with pytest.raises(InputError):
            identity.identity(value)


# --- Attacks --------------------------------------------------------------------------------------


def threats():
    return [Threat(attack=a, gradient=g) for a in attacks() for g in GRADIENTS]


def test_keys_and_labels_tell_attacks_apart():
    found = threats()
    assert len({threat.key for threat in found}) == len(found)
    assert len({threat.label for threat in found}) == len(found)
    assert all(identity.LABEL.fullmatch(threat.label) for threat in found)
    assert CLEAN not in {threat.label for threat in found}


def test_a_label_is_short_and_the_same_in_every_process():
    assert Threat(attack=FGSM(eps=0.2)).label == "fgsm-linf-0.2"
    assert Threat(attack=PGD(eps=0.1), gradient=Identity()).label == "bpda-linf-0.1"
    assert Threat(attack=PGD(eps=0.1, steps=40)).label == "pgd-linf-0.1-f570418d"
    assert Threat(attack=PGD(eps=0.1 + 1e-12)).label != Threat(attack=PGD(eps=0.1)).label


def test_a_threat_is_the_same_after_json_and_expansion():
    for threat in threats():
        stored = json.loads(json.dumps(threat.recorded))
        assert identity.key(stored) == identity.key(threat.settings()) == threat.key


def test_planned_attacks_are_named_as_their_folder_names_them():
    first, second = (Threat(attack=PGD(eps=eps)).recorded for eps in (0.1, 0.2))
    found = identity.labels([second, first, second], {"an-old-label": first})
    assert list(found) == ["pgd-linf-0.2", "an-old-label"]
    assert identity.union([first], [second, first]) == [first, second]


# --- Settings that come and go --------------------------------------------------------------------


def changed(monkeypatch, cls, extra=(), without=()):
    """The class as another version of ridefense would have it, in place of `cls`."""
    kept = [
        (f.name, f.type, dataclasses.field(default=f.default))
        for f in dataclasses.fields(cls)
        if f.init and f.name not in without
    ]
    made = dataclasses.make_dataclass(cls.__name__, [*kept, *extra], frozen=True, kw_only=True)
    if hasattr(cls, "derived_defaults"):
        made.derived_defaults = cls.derived_defaults
    known = {**identity.known(), cls.__name__: made}
    monkeypatch.setattr(identity, "known", lambda: known)
    return made


@pytest.mark.parametrize("old", [PGD(eps=0.1, steps=40), RIDE.preset("paper", network="mnist")])
def test_a_new_setting_with_a_default_changes_no_identity(monkeypatch, old):
    before = identity.identity(old)
    newer = changed(monkeypatch, type(old), extra=[("warmth", float, 0.5)])
    own = {f.name: getattr(old, f.name) for f in dataclasses.fields(old)}
    assert identity.identity(newer(**own)) == before
    assert identity.expanded(before)["warmth"] == 0.5
    assert identity.identity(newer(**own, warmth=0.75)) == before | {"warmth": 0.75}


def test_an_unused_setting_can_be_removed(monkeypatch):
    old, used = PGD(eps=0.1, steps=40), PGD(eps=0.1, targets=3)
    before, refused = identity.identity(old), identity.identity(used)
    newer = changed(monkeypatch, PGD, without=("targets",))
    own = {f.name: getattr(old, f.name) for f in dataclasses.fields(newer)}
    assert identity.identity(newer(**own)) == before
    assert "targets" not in identity.expanded(before)
    with pytest.raises(InputError, match=r"'targets'.*targets 3") as told:
        identity.expanded(refused)
    assert "\n" not in str(told.value)


def test_no_default_has_changed_within_the_schema():
    """Records leave defaults out. If this fails, raise the schema and migrate, or undo it."""
    for name, old in migrations.DEFAULTS.items():
        now = identity._own_defaults(identity.known()[name])
        for setting, default in old.items():
            assert now.get(setting, default) == default, f"{name}.{setting}"


# --- What is published ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    for archive in PUBLISHED.glob("*/records.tar.xz"):
        unpack(archive, folder / archive.parent.name)
    return folder


@pytest.mark.slow
def test_every_published_folder_is_read(published):
    folders, rows = find(published), 0
    for folder in folders:
        found = read(folder)
        declared = json.loads((folder / "run.json").read_bytes())
        assert list(found.attacks) == list(declared["attacks"])
        rows += len(found.rows)
        assert found.settings["purifier"]["type"] == declared["settings"]["purifier"]["type"]
    assert len(folders) > 100
    assert rows > 100_000


@pytest.mark.slow
def test_settings_that_were_removed_are_dropped_and_others_kept(published):
    for folder in find(published):
        old = json.loads((folder / "run.json").read_bytes())["settings"]["purifier"]
        new = read(folder).settings["purifier"]
        kept = {k: v for k, v in old.items() if k not in ("halvings", "tolerance", "base")}
        if (noisy := kept.pop("noisy_target", None)) is not None:
            assert new["target_noise"] == ("independent" if noisy else "none")
        assert holds(new, kept)  # settings added since have their defaults


def holds(new, old):
    """Whether a value has all that an older one has."""
    if isinstance(old, dict):
        return all(name in new and holds(new[name], value) for name, value in old.items())
    return new == old


@pytest.mark.slow
def test_every_attack_of_an_experiment_is_found_in_its_published_folder(published):
    looked_for = 0
    for experiment in EXPERIMENTS.values():
        for name, evaluation in experiment.cases(Setup.at("laptop")).items():
            folder = published / "reproduction" / "runs" / name
            if folder.exists():
                found = read(folder)
                assert all(found.label(threat.recorded) for threat in evaluation.threats), name
                looked_for += len(evaluation.threats)
    assert looked_for > 300


@pytest.fixture
def old(tmp_path):
    """A folder that version 0.1.0 wrote, with this machine's package versions."""
    shutil.copytree(HERE / "schema-1", tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    declared = json.loads(path.read_text())
    assert declared["format"] == 1
    path.write_text(json.dumps(declared | {"versions": versions() | {"ridefense": "0.1.0"}}))
    return tmp_path / "run"


def the_same():
    """What was declared for that folder."""
    digits = classifiers.load("digits-cnn")
    through = Transfer(source=Defended(digits, Median(5)), attack=PGD(eps=0.1, steps=1))
    held = HeldWeights(eps=0.1, steps=1, hold=1, eot=1, purifier_seed=7)
    imitated = Surrogate(imitator(1, 4).requires_grad_(False))
    return Evaluation(
        dataset="digits",
        classifier="digits-cnn",
        limit=2,
        draws=2,
        batch=2,
        rounded=False,
        purifier=TINY,
        threats=(
            Threat(attack=FGSM(eps=0.2)),
            Threat(attack=PGD(eps=0.1, steps=2, random_start=True), gradient=Identity()),
            Threat(attack=through),
            Threat(attack=Transfer(source=digits, attack=FGSM(eps=0.1))),
            Threat(attack=PGD(eps=0.1, steps=1), gradient=imitated),
            Threat(attack=held, gradient=FrozenWeights()),
        ),
    )


@pytest.mark.slow
def test_a_run_that_schema_1_wrote_is_resumed_without_computing_a_row(old, monkeypatch):
    before, lines = read(old), (old / "records.jsonl").read_bytes()

    def fail(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(protocol, "evaluate_chunk", fail)
    resumed = run(the_same(), old)
    assert resumed.rows == before.rows
    assert list(resumed.attacks) == list(before.attacks)
    assert (old / "records.jsonl").read_bytes() == lines
    assert json.loads((old / "run.json").read_text())["format"] == identity.SCHEMA


def test_missing_rows_and_new_attacks_are_added_to_a_run_that_schema_1_wrote(old):
    before, path = read(old), old / "records.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    more = Threat(attack=FGSM(eps=0.05))
    resumed = run(replace(the_same(), threats=(*the_same().threats, more)), old)
    assert {row.key for row in before.rows} < {row.key for row in resumed.rows}
    assert len(resumed.rows) == len(before.rows) + 2
    assert list(resumed.attacks) == [*before.attacks, "fgsm-linf-0.05"]
    assert resumed.label(more.recorded) == "fgsm-linf-0.05"


@pytest.mark.parametrize(
    ("name", "value"),
    [("halvings", 2), ("tolerance", 0.1), ("suppression", "above"), ("carry", "nothing")],
)
def test_a_removed_setting_that_was_used_is_refused_by_name(old, name, value):
    path = old / "run.json"
    declared = json.loads(path.read_text())
    declared["settings"]["purifier"][name] = value
    path.write_text(json.dumps(declared))
    for use in (read, lambda folder: run(the_same(), folder)):
        with pytest.raises(InputError, match=name) as told:
            use(old)
        assert "\n" not in str(told.value)


def test_plans_of_schema_1_are_migrated_by_the_labels_of_their_folders(old):
    recorded = read(old).attacks
    plan = {"scale": "smoke", "planned": {"a": list(recorded), "b": ["unknown"]}, "refused": {}}
    found = migrations.of_experiment(plan, lambda case: recorded if case == "a" else {})
    assert found["planned"] == {"a": list(recorded.values()), "b": []}
    declared = json.loads((HERE / "schema-1" / "run.json").read_text())["attacks"]
    audit = migrations.of_audit({"planned": {"ride": declared}, "radii": [0.1]})
    assert list(identity.labels(audit["planned"]["ride"], recorded)) == list(recorded)


# --- Fingerprints ---------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch):
    """How often weights are hashed, by the number of tensors."""
    from ridefense import describe as module

    calls, original = [], module.fingerprint

    def counting(tensors):
        calls.append(len(tensors))
        return original(tensors)

    monkeypatch.setattr(module, "fingerprint", counting)
    return calls


def test_weights_are_hashed_once_however_many_attacks_and_images_there_are(hashed, tmp_path):
    source = classifiers.load("digits-cnn")
    given = [Threat(attack=Transfer(source=source, attack=FGSM(eps=e))) for e in (0.1, 0.2, 0.3)]
    evaluation = Evaluation(
        dataset="digits",
        classifier="digits-cnn",
        limit=6,
        batch=1,
        purifier=Median(),
        threats=tuple(given),
    )
    run(evaluation, tmp_path / "run")
    run(replace(evaluation, purifier=Median(5)), tmp_path / "other")
    assert len(hashed) <= 2  # the source, and the evaluated classifier unless a test before did


def test_changed_weights_are_hashed_again(hashed):
    network = torch.nn.Linear(2, 2).requires_grad_(False)
    before = describe(Surrogate(network))
    assert describe(Surrogate(network)) == before
    assert len(hashed) == 1
    with torch.no_grad():
        network.weight += 1
    assert describe(Surrogate(network)) != before
    trained = torch.nn.Linear(2, 2)
    before = describe(Surrogate(trained))
    trained.weight.data += 1  # which PyTorch does not count
    assert describe(Surrogate(trained)) != before
