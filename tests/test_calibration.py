"""A calibration: the audit of samples whose robustness is known, from the command to the page."""

import json
from dataclasses import replace

import pytest

from ridefense import InputError
from ridefense.audit import BUDGETS
from ridefense.calibration import Calibration, carry_out, chosen, compose, measured
from ridefense.calibration.others import pgd
from ridefense.calibration.running import survivors
from ridefense.cli.running import run as main
from ridefense.pages import as_markdown

WEAK = replace(
    BUDGETS["small"], steps=(10,), eot=(1,), step_sizes=(), restarts=(), apgd=5, directions=2,
    queries=5, rays=0, answers=0,
)  # fmt: skip


def calibration(*names, **changes):
    settings = {
        "eps": 0.3,
        "budget": WEAK,
        "budget_name": "weak",
        "images": 6,
        "autoattacked": 0,
        "samples": chosen(names),
    }
    return Calibration(**(settings | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    carry_out(calibration("flipped-sign", "through-numpy", "returns-its-input"), folder)
    return folder


@pytest.mark.slow
def test_mirages_are_found_out_and_single_attacks_are_not_always_enough(folder):
    plan, found = measured(folder)
    assert [one.sample.name for one in found] == [
        "through-numpy", "flipped-sign", "returns-its-input",
    ]  # fmt: skip
    numpy, flipped, _ = found
    for one in found:
        assert one.holds
        assert one.true.n == one.reported.n == 6
        assert one.reported.correct <= one.true.correct
        assert not one.invalid
    assert flipped.alone("PGD").accuracy.correct > flipped.true.correct
    assert numpy.alone("PGD") is None
    assert numpy.failed("PGD")  # it has no derivative
    assert numpy.alone("BPDA").accuracy.correct <= 1
    page = as_markdown(compose(plan, found))
    assert "3 of 3 mirages are found out" in page
    assert "PGD alone would have reported more than the truth, or nothing, for 2 of 3" in page


@pytest.mark.slow
def test_a_calibration_resumes_and_more_samples_can_be_added(folder):
    before = (folder / "flipped-sign" / "records.jsonl").read_bytes()
    carry_out(calibration("rounding"), folder)
    assert (folder / "flipped-sign" / "records.jsonl").read_bytes() == before
    assert set(json.loads((folder / "calibration.json").read_text())["samples"]) == {
        "through-numpy", "rounding", "flipped-sign", "returns-its-input",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"eps 0\.3, not 0\.2; choose another folder"):
        carry_out(calibration("rounding", eps=0.2), folder)


@pytest.mark.slow
def test_an_audit_that_is_too_weak_is_told(folder, monkeypatch):
    """The truth is better known than the audit can tell: the page must not hide it."""
    _, (numpy, *_) = measured(folder)
    images = numpy.audit.clean.survival
    kept = {image: [True] * 1 for image in images}
    for attack in numpy.case.attacks:
        attack.__dict__["right"] = kept
    assert survivors(numpy.audit, 0.3) == set(images)
    fooled = replace(numpy)
    assert fooled.beyond == len(images) - fooled.true.correct
    assert not fooled.holds


@pytest.mark.slow
def test_a_sound_classifier_keeps_its_figure(tmp_path):
    carry_out(calibration("digits-cnn-adv0.3", eps=0.1, images=3), tmp_path)
    _, (sound,) = measured(tmp_path)
    assert sound.truth_known
    assert sound.holds
    assert sound.true.correct == sound.reported.correct == 3


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    words = ["audit", "--calibrate", "--out", str(tmp_path)]
    assert main([*words, "--sample", "one-hot"]) == 2
    assert "sample is 'one-hot'" in capsys.readouterr().err
    assert main([*words, "--eps", "0.1", "--eps", "0.3"]) == 2
    assert "a calibration has one radius" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_writes_the_page(tmp_path, capsys):
    words = ["audit", "--calibrate", "--images", "3", "--sample", "decisions", "--workers", "1"]
    assert main([*words, "--autoattack-images", "1", "--out", str(tmp_path)]) == 0
    assert "1 of 1 mirages are found out" in capsys.readouterr().out
    page = (tmp_path / "calibration.md").read_text()
    assert "| decisions |" in page
    assert "n = 1" in page or "fails" in page
    assert (tmp_path / "calibration.html").stat().st_size


def test_a_textbook_attack_has_no_repair():
    """It is told apart from ours by its settings, and is run on the derivative as it is."""
    threat = pgd(0.3)
    assert threat.recorded["attack"]["type"] == "TextbookPGD"
    assert threat.recorded["gradient"] == {"type": "AsItIs"}
