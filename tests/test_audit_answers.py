"""Indicators of failure on surviving images are answered by the next attacks in line."""

from dataclasses import replace

import pytest

from audits import DRAWS, case
from ridefense.attacks import APGD, PGD, SPSA, RayS, Square
from ridefense.attacks.diagnostics import Diagnostics
from ridefense.audit import Audit, Budget, carry_out, gather
from ridefense.audit.answers import answers, indicators
from ridefense.audit.findings import read_plan
from ridefense.calibration.gradients import FlippedSign
from ridefense.calibration.randomness import ImageNoise
from ridefense.defended import as_purifier
from ridefense.evaluate import Evaluation, Threat, identity
from ridefense.filters import Median, Unchanged
from ridefense.gradients import Identity, Unrolled

BUDGET = Budget(
    steps=(10,), eot=(1,), frozen=(1,), held=(10,), step_sizes=(), restarts=(), truncated=(),
    unrolled=0, apgd=5, directions=2, queries=5, decisions=0, autoattack=False, targets=1,
    imitated=0, rays=20, answers=40,
)  # fmt: skip
BALL = ("Linf", 0.1)
SOUND = Diagnostics(steps=10, coherence=9.0)


def found(searches, purifier=None, survivors=(0, 2)):
    """What answers attacks whose search saw `searches`, if two of four images survive."""
    right = [DRAWS if image in survivors else 0 for image in range(4)]
    result = case("mine", dict.fromkeys(searches, right))
    rows = [
        replace(row, search=search) if row.attack == threat.label else row
        for row in result.run.rows
        for threat, search in [_of(row.attack, searches)]
    ]
    result = replace(result, run=replace(result.run, rows=tuple(rows)))
    evaluation = Evaluation(
        dataset="digits",
        classifier="digits-cnn",
        threats=tuple(searches),
        purifier=purifier or Median(3),
    )
    return result, answers(result, evaluation, BALL, BUDGET)


def _of(label, searches):
    known = {threat.label: (threat, search) for threat, search in searches.items()}
    return known.get(label, next(iter(searches.items())))


THROUGH = Threat(attack=PGD(eps=0.1, steps=40), gradient=Unrolled())
PLAIN = Threat(attack=PGD(eps=0.1), gradient=Unrolled())


def kinds(threats):
    return {type(threat.attack) for threat in threats}


def test_a_sound_search_is_not_answered():
    assert found({THROUGH: SOUND})[1] == ()


@pytest.mark.parametrize("broken", [{"zero": 1.0}, {"climbed": False}, {"not_finite": 0.5}])
def test_a_useless_gradient_is_answered_without_one(broken):
    result, more = found({THROUGH: replace(SOUND, **broken)})
    assert {APGD, RayS, Square, SPSA} <= kinds(more)
    assert any(threat.gradient is None for threat in more)  # a transfer from the static classifier
    assert {threat.gradient for threat in more if threat.gradient} == {Identity()}
    assert indicators(result.attack(THROUGH.label), {0})
    assert not indicators(result.attack(THROUGH.label), {1})  # it did not survive


def test_images_that_were_broken_call_for_nothing():
    assert found({THROUGH: replace(SOUND, zero=1.0)}, survivors=())[1] == ()


def test_noise_is_answered_by_more_draws_and_a_smoothed_gradient():
    _, more = found({THROUGH: replace(SOUND, coherence=0.7)}, as_purifier(ImageNoise()))
    assert {threat.attack.eot for threat in more if isinstance(threat.attack, APGD)} == {20}
    assert {t.attack.delta for t in more if isinstance(t.attack, SPSA)} == {0.03, 0.1}


def test_a_loss_that_still_rises_is_answered_by_more_steps():
    _, more = found({THROUGH: replace(SOUND, rising=True)})
    assert more == (replace(THROUGH, attack=PGD(eps=0.1, steps=160)),)


def test_a_point_that_was_lost_is_answered_by_an_attack_that_keeps_it():
    _, (more,) = found({THROUGH: replace(SOUND, fooled=1.0)})
    assert isinstance(more.attack, APGD)
    assert more.gradient == THROUGH.gradient


def test_the_attack_of_most_steps_speaks_for_its_gradient():
    misled = replace(SOUND, steps=10, climbed=False)
    assert found({PLAIN: misled, THROUGH: replace(SOUND, steps=40)})[1] == ()
    assert found({PLAIN: SOUND, THROUGH: replace(misled, steps=40)})[1]


def test_a_bare_classifier_is_answered_as_one():
    bare = Threat(attack=PGD(eps=0.1))
    _, more = found({bare: replace(SOUND, zero=1.0)}, Unchanged())
    assert more
    assert all(threat.gradient is None for threat in more)


@pytest.mark.slow
def test_an_audit_answers_plans_and_resumes(tmp_path):
    audit = Audit(
        dataset="digits", classifier="digits-cnn-adv0.3", name="flipped", purifier=FlippedSign(),
        radii=(0.1,), budget=BUDGET, curve=(), limit=3, batch=3,
    )  # fmt: skip
    carry_out(audit, tmp_path)
    planned = read_plan(tmp_path / "audit.json")["planned"]["flipped"]
    assert {"RayS", "Square", "SPSA"} <= {threat["attack"]["type"] for threat in planned}
    longer = [t for t in planned if t["attack"].get("queries") == BUDGET.answers]
    assert {threat["attack"]["type"] for threat in longer} == {"RayS", "Square"}
    subject = gather(tmp_path).subject
    assert not subject.unfinished
    assert len({identity.key(threat) for threat in planned}) == len(planned)
    before = (tmp_path / "flipped" / "records.jsonl").read_bytes()
    carry_out(audit, tmp_path)
    assert (tmp_path / "flipped" / "records.jsonl").read_bytes() == before
    assert read_plan(tmp_path / "audit.json")["planned"]["flipped"] == planned
