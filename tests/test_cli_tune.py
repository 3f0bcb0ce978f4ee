"""`ridefense tune`: what it prints, writes and refuses, and that its preset is of use."""

import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import pages
from evaluations import numbers
from ridefense import RIDE, preset_files, tuning
from ridefense.attacks import FGSM
from ridefense.evaluate import Evaluation, Threat, find, read

GRID = {"steps": [1, 8], "learning_rate": [0.0, 4e-3]}
SIZE = "--images 6 --report-images 4"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with a base preset of few steps and a grid around it."""
    folder = tmp_path_factory.mktemp("inputs")
    base = replace(RIDE.preset("fast", network="mnist"), steps=2, rounds=2, samples=1, refits=0)
    preset_files.write(folder / "base.json", base)
    (folder / "grid.toml").write_text("".join(f"{k} = {v}\n" for k, v in GRID.items()))
    return folder


def command(inputs, out, *more):
    """As `ridefense tune` of the inputs into a folder."""
    given = ("--preset", inputs / "base.json", "--grid", inputs / "grid.toml", "--out", out)
    return shlex.join(["ridefense", "tune", *map(str, (*given, *more))]) + f" {SIZE}"


@pytest.fixture
def searched(inputs, tmp_path, capsys):
    """A folder that was searched into, with stdout."""
    out = tmp_path / "search"
    assert pages.call(command(inputs, out, "--attack", "fgsm", "--eps", "0.2")) == 0
    return out, capsys.readouterr().out


@pytest.mark.slow
def test_it_is_the_library_search(inputs, searched, tmp_path):
    out, told = searched
    search = tuning.Search(
        dataset="digits",
        classifier="digits-cnn",
        purifier=RIDE.preset(str(inputs / "base.json"), network="mnist"),
        threats=(Threat(attack=FGSM(eps=0.2)),),
        limit=6,
        reported=Evaluation(dataset="digits", classifier="digits-cnn", limit=4),
    )
    trials = tuning.tune(search, tuning.product(GRID), tmp_path / "library")
    assert len(trials) == 4
    assert (out / "preset.json").read_bytes() == (tmp_path / "library/preset.json").read_bytes()
    expected = [
        [f"{trial.changes[name]:g}" for name in GRID] + [f"{trial.loss:.4g}"] for trial in trials
    ]
    rows = [line.split()[:3] for line in told.splitlines() if line.split()[0] in ("1", "8")]
    assert [[f"{float(word):.4g}" for word in row] for row in rows] == expected


def test_the_printed_command_reports_the_preset_on_other_images(searched, tmp_path, capsys):
    out, told = searched
    (line,) = (line for line in told.splitlines() if line.startswith("ridefense evaluate"))
    assert pages.call(f"{line} --out {tmp_path / 'report'}") == 0
    assert "RIDE" in capsys.readouterr().out
    (reported,) = find(tmp_path / "report")
    reported = read(reported)
    assert [attack["attack"]["type"] for attack in reported.attacks.values()] == ["FGSM"]
    assert {attack["eps"] for attack in reported.attacks.values()} == {0.2}
    best = RIDE.preset(str(out / "preset.json"), network="mnist")
    recorded = reported.settings["purifier"]
    assert {name: recorded[name] for name in GRID} == {name: getattr(best, name) for name in GRID}
    ours = {row.image for folder in find(out) for row in read(folder).rows}
    theirs = {row.image for row in reported.rows}
    assert (len(ours), len(theirs)) == (6, 4)
    assert not ours & theirs


@pytest.mark.slow
def test_killed_it_goes_on_to_the_same_end(inputs, tmp_path):
    more = ("--eps", "0.1", "--steps", "2", "--engine", "eager")
    code = "from ridefense.cli import main; main()"
    arguments = pages.arguments(command(inputs, tmp_path / "killed", *more))
    with subprocess.Popen([sys.executable, "-c", code, *arguments]) as process:
        while process.poll() is None and len(complete(tmp_path / "killed")) < 2:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed/preset.json").exists()
    before = {path: path.read_bytes() for path in complete(tmp_path / "killed")}
    for name in ("killed", "whole"):
        assert pages.call(command(inputs, tmp_path / name, *more)) == 0
    assert all(path.read_bytes() == records for path, records in before.items())
    killed, whole = (tmp_path / name / "preset.json" for name in ("killed", "whole"))
    assert killed.read_bytes() == whole.read_bytes()
    for folder in find(tmp_path / "whole"):
        other = tmp_path / "killed" / Path(folder).name
        assert numbers(read(other).rows) == numbers(read(folder).rows)


def complete(out):
    """The records of those θ that are done: six images, clean and attacked."""
    files = out.glob("*/records.jsonl")
    return [path for path in files if path.read_bytes().count(b"\n") == 12]


def test_the_printed_command_has_the_same_attack(inputs, tmp_path, capsys):
    (tmp_path / "grid.json").write_text('[{"steps": 1}]')
    attack = "--engine eager --attack bpda --steps 2 --step-size 0.02"
    more = f"{attack} --grid {tmp_path / 'grid.json'} --out {tmp_path / 'o'}"
    assert pages.call(f"ridefense tune --preset {inputs / 'base.json'} {SIZE} {more}") == 0
    told = capsys.readouterr().out
    (line,) = (line for line in told.splitlines() if line.startswith("ridefense evaluate"))
    assert pages.call(f"{line} --out {tmp_path / 'report'}") == 0
    (searched,) = (read(folder) for folder in find(tmp_path / "o"))
    (reported,) = (read(folder) for folder in find(tmp_path / "report"))
    assert list(reported.attacks) == list(searched.attacks)
    assert reported.settings["purifier"]["engine"] == "eager"


def test_an_estimator_of_its_own_is_named_in_the_printed_command(inputs, tmp_path, capsys):
    (tmp_path / "grid.json").write_text('[{"steps": 1}]')
    more = f"--purifier dae --attack none --grid {tmp_path / 'grid.json'} --out {tmp_path / 'o'}"
    assert pages.call(f"ridefense tune --preset {inputs / 'base.json'} {SIZE} {more}") == 0
    told = capsys.readouterr().out
    assert f"--purifier dae --preset {tmp_path / 'o/preset.json'} --attack none" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--grid none.toml", "grid none.toml cannot be read"),
        ("--grid wrong.json", "a grid cannot change stepz"),
        ("--grid empty.json", "the grid is empty"),
        ("--preset hugo", "preset is 'hugo'; use one of"),
        ("--preset hugo.json", "hugo.json is no preset file"),
        ("--purifier median", "median is no estimator; tune one of ride, dae"),
        ("--purifier dip", "neither α nor σ"),
        ("--report-images 950", "50 images of"),
        ("--eps -1", "eps is -1"),
        ("--classifier nothing", "no classifier 'nothing'"),
        ("--images 0", "--images"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    Path("wrong.json").write_text('{"stepz": [1]}')
    Path("empty.json").write_text("[]")
    assert pages.call(f"ridefense tune {arguments}") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err
    assert not Path("runs").exists()


def test_another_report_needs_another_folder(inputs, searched, capsys):
    out, _ = searched
    other = command(inputs, out, "--attack", "fgsm", "--eps", "0.2") + " --report-images 5"
    assert pages.call(other) == 2
    assert "holds records with" in capsys.readouterr().err


def test_help(capsys):
    assert pages.call("ridefense tune --help") == 0
    assert "Examples:" in capsys.readouterr().out
