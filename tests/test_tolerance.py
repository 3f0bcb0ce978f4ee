"""An error of an attack or a defence on one image costs that image alone, where it is tolerated."""

from dataclasses import replace

import pytest

from ridefense import WholeModel
from ridefense.attacks import PGD
from ridefense.errors import UserCodeError
from ridefense.evaluate import CLEAN, FAILED, Evaluation, Threat, read, run
from ridefense.evaluate.lines import DEFENCE_FAILED
from ridefense.gradients import Unrolled
from ridefense.results import DefenceResult
from whole_models import Digits


class Fragile(Digits):
    """Raises an error on images of a one: where a gradient is asked for, or always."""

    def __init__(self, on: str) -> None:
        super().__init__()
        self.on = on

    def forward(self, images):
        if self.on == "gradients" and images.requires_grad and self.reader(images)[:, 1].max() > 5:
            raise ValueError("a gradient of a one")
        if self.on == "clean" and self.reader(images)[:, 1].max() > 5:
            raise ValueError("a one")
        return self.reader(images)


def declared(on, **changes):
    threat = Threat(attack=PGD(eps=0.1, steps=2), gradient=Unrolled())
    settings = {
        "dataset": "digits",
        "classifier": "digits-cnn",
        "purifier": WholeModel(Fragile(on), known_as="fragile"),
        "threats": (threat,),
        "limit": 8,
        "batch": 4,
        "tolerant": True,
    }
    return Evaluation(**(settings | changes))


def test_an_attack_that_fails_on_an_image_is_not_finished(tmp_path):
    found = run(declared("gradients"), tmp_path)
    failed = {row.image for row in found.rows if FAILED in row.faults}
    assert {row.attack for row in found.rows if row.faults} != {CLEAN}
    assert 0 < len(failed) < 8
    assert all("a gradient of a one" in row.error for row in found.rows if row.faults)
    result = DefenceResult.of("mine", read(tmp_path))
    (attack,) = result.every
    assert not attack.is_finished
    assert {*attack.rows} == {row.image for row in found.rows} - failed
    plain = run(
        declared("nothing", purifier=WholeModel(Digits(), known_as="sound")), tmp_path / "sound"
    )
    others = {row.image: row.predictions for row in plain.rows if row.attack != CLEAN}
    assert all(others[image] == rows[0].predictions for image, rows in attack.rows.items())
    assert [*result.errors] == [attack.label]


def test_a_defence_that_fails_on_a_clean_image_is_wrong_there(tmp_path):
    found = run(declared("clean", threats=()), tmp_path)
    failed = [row for row in found.rows if DEFENCE_FAILED in row.faults]
    assert 0 < len(failed) < 8
    assert all(row.predictions == (-1,) for row in failed)
    clean = DefenceResult.of("mine", read(tmp_path)).clean
    assert clean.is_finished
    assert clean.accuracy.correct <= 8 - len(failed)


def test_without_tolerance_the_error_ends_the_run_and_keeps_what_is_finished(tmp_path):
    with pytest.raises(UserCodeError, match="a gradient of a one"):
        run(declared("gradients", tolerant=False, batch=1), tmp_path)
    before = read(tmp_path).rows
    assert before
    after = run(declared("gradients", batch=1), tmp_path).rows
    assert {row.key for row in before} < {row.key for row in after}


def test_tolerance_identifies_no_result():
    one = declared("clean").declared()
    assert one == replace(declared("clean"), tolerant=False).declared()
