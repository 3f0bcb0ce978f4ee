"""How long an audit takes, and what of it fits into a time."""

import math
from dataclasses import replace

import pytest

from evaluations import GRAY, WHITE, declare
from ridefense import Median
from ridefense.attacks import SPSA
from ridefense.audit import Audit, carry_out, gather, write
from ridefense.audit.forecast import Forecast, Pace, Until, duration
from ridefense.evaluate import Here, Processes, Threat, read, run
from ridefense.gradients import Identity
from test_audit import SCANT

SLOW = Threat(attack=SPSA(eps=0.1, steps=10, directions=64), gradient=Identity())


def forecast(tmp_path, workers=Here()):  # noqa: B008
    declared = declare(tmp_path, threats=(SLOW, WHITE, GRAY))
    declared.load()
    return declared, Forecast.of({"mine": declared}, workers)


def test_an_attack_takes_as_long_as_what_it_asks_for(tmp_path):
    declared, _ = forecast(tmp_path)
    pace = Pace(purification=1.0, forward=0.1, backward=0.2)
    draws = 3 + 1  # and the rounded image
    assert pace.of(declared, None) == pytest.approx(8 * draws * 1.1)
    assert pace.of(declared, WHITE) == pytest.approx(8 * (draws * 1.1 + 2 * (1 + 0.1 + 0.2)))
    assert pace.of(declared, SLOW) == pytest.approx(8 * (draws * 1.1 + 1280 * 1.1))


def test_what_fits_is_the_cheapest(tmp_path):
    declared, found = forecast(tmp_path)
    order = [threat for _, threat, _ in found.items]
    assert order[0] is None
    assert order[-1] == SLOW
    everything = found.fitting({"mine": declared}, math.inf)
    assert {*everything["mine"].threats} == {*declared.threats}
    less = found.fitting({"mine": declared}, found.seconds - 1e-9)
    assert {*less["mine"].threats} == {WHITE, GRAY}
    assert found.fitting({"mine": declared}, 0.0)["mine"].threats == ()
    assert "3 attacks on 1 defences" in str(found)


def test_processes_share_the_time(tmp_path):
    _, found = forecast(tmp_path)
    shared = replace(found, processes=4)
    assert shared.seconds == pytest.approx(found.seconds / 4)
    _, other = forecast(tmp_path, Processes(3))
    assert other.processes == 3


def test_workers_stop_at_the_time_and_keep_what_is_finished(tmp_path):
    declared = declare(tmp_path, threats=(GRAY,), limit=8, batch=2)
    assert not run(declared, tmp_path / "run", workers=Until(Here(), -math.inf)).rows
    found = run(declared, tmp_path / "run", workers=Until(Here(), math.inf)).rows
    assert len(found) == 16


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "1 s"), (59, "59 s"), (90, "1.5 min"), (9000, "2.5 h")]
)
def test_durations_in_words(seconds, told):
    assert duration(seconds) == f"about {told}"


@pytest.mark.slow
def test_an_audit_of_no_time_has_its_plan_and_says_what_was_left_out(tmp_path):
    audit = Audit(
        dataset="digits",
        classifier="digits-cnn",
        name="median",
        purifier=Median(3),
        radii=(0.2,),
        l2_radii=(1.5,),
        beyond=True,
        budget=SCANT,
        curve=(),
        limit=2,
        batch=2,
    )
    told = []
    carry_out(audit, tmp_path, minutes=0.3, say=told.append)
    assert "attacks on 3 defences" in told[0]
    found = gather(tmp_path)
    assert found.balls == (("Linf", 0.2), ("L2", 1.5), ("Flow", 1.0))
    if found.subject.unfinished:
        write(tmp_path)
        assert "planned and not started" in (tmp_path / "audit.md").read_text()
    carry_out(audit, tmp_path)
    found = gather(tmp_path)
    assert not found.subject.unfinished
    assert {attack.threat.ball for attack in found.subject.attacks} == {*found.balls}
    assert len(found.subject.at("L2", 1.5)) > 5
    assert all(row.l2 <= 1.5001 for row in read(tmp_path / "median").rows if "-l2-" in row.attack)
