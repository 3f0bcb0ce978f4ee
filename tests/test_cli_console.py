"""How long commands speak where no terminal shows a bar."""

import sys

import pytest

import pages
from evaluations import weights
from ridefense import datasets, presets
from ridefense.cli import console
from ridefense.imagefiles import save_image


@pytest.fixture
def clock(monkeypatch):
    """The time, to be set."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])

    def at(seconds):
        now[0] = 100.0 + seconds

    return at


def test_a_change_is_told_at_most_every_ten_seconds(clock, capsys):
    with console.bar("rows") as move:
        for seconds, doing in (
            (1, "clean images"),
            (11, "clean images"),
            (20, "BPDA"),
            (22, "BPDA"),
            (50, "BPDA"),
            (60, "PGD"),
            (61, "BPDA"),
        ):
            clock(seconds)
            move(doing, seconds / 2, 50, "loss 1")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "clean images: 6 of 50 rows, loss 1",
        "BPDA: 11 of 50 rows, loss 1",
        "PGD: 30 of 50 rows, loss 1",
    ]


def test_what_is_done_soon_says_nothing(clock, capsys):
    with console.bar("rows") as move:
        for seconds in range(10):
            clock(seconds)
            move(f"step {seconds}", seconds, 10)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(console, "PAUSE", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console.bar("rows") as move:
        move("training", 1, 2, "loss 1")
        move("more", 2, 2)
    told = capsys.readouterr().err
    assert "\x1b[" in told
    assert "more: 2 of 2" not in told


@pytest.fixture
def talkative(monkeypatch):
    monkeypatch.setattr(console, "PAUSE", 0)


@pytest.mark.slow
@pytest.mark.usefixtures("talkative")
def test_evaluate_says_what_it_is_at(tmp_path, capsys):
    classifier = weights(tmp_path)
    named = f"--classifier {classifier} --purifier median --images 2 --steps 2 --eps 0.1"
    assert pages.call(f"ridefense evaluate {named} --out {tmp_path / 'out'} --json") == 0
    told = capsys.readouterr()
    assert "median: clean images: " in told.err
    assert "median: BPDA: " in told.err
    assert "BPDA: " not in told.out


@pytest.mark.slow
@pytest.mark.usefixtures("talkative")
def test_purify_and_training_say_how_far_they_are(tmp_path, capsys, monkeypatch):
    tiny = {"steps": 2, "rounds": 2, "samples": 1, "refits": 0}
    monkeypatch.setitem(presets.PRESETS, "fast", lambda network: tiny.copy())
    save_image(datasets.load("digits", limit=1).images[0], tmp_path / "in.png")
    named = f"{tmp_path / 'in.png'} {tmp_path / 'out.png'} --engine eager"
    assert pages.call(f"ridefense purify {named}") == 4  # so few steps keep no contrast
    told = [line for line in capsys.readouterr().err.splitlines() if "of 100 %" in line]
    assert [line.split(": ")[0] for line in told] == ["purifying"]
    out = tmp_path / "cnn.safetensors"
    named = f"mnist-cnn --dataset digits --epochs 2 --out {out}"
    assert pages.call(f"ridefense train-classifier {named}") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "loss" in line]
    assert [line.split(": ")[0] for line in told] == [
        "training, epoch 1 of 2",
        "training, epoch 2 of 2",
    ]
