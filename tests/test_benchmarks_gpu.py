"""What the GPU benchmarks write where they are cut off, as far as it can be seen without a GPU."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gpu, paper = load("gpu"), load("gpu_paper")


def test_rows_are_written_as_they_are_measured(tmp_path):
    out = tmp_path / "gpu.json"

    def rows():
        return [row["n"] for row in json.loads(out.read_bytes())["rows"]]

    def second():
        assert rows() == [1]
        return {"n": 2, "passed": False}

    def breaks():
        assert rows() == [1, 2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gpu.measure(iter([lambda: {"n": 1}, second, breaks]), out, 1e9, {})
    assert rows() == [1, 2]
    assert gpu.measure(iter([lambda: {"n": 1}]), out, 1e9, {}) == 0
    assert gpu.measure(iter([lambda: {"n": 1, "passed": False}]), out, 1e9, {}) == 1


def test_nothing_begins_after_its_time(tmp_path):
    out = tmp_path / "gpu.json"
    assert gpu.measure(iter([lambda: pytest.fail("begun")]), out, -1, {}) == 0
    assert not out.exists()


def test_checks_come_before_schedules_and_those_before_variants():
    kinds = [job.func.__name__ for job in gpu.jobs(["mnist", "imagenet"], 1)]
    assert kinds[:5] == ["check"] * 4 + ["schedule"]
    assert kinds[-6:] == ["step"] * 6


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("module", [gpu, paper], ids=["gpu", "gpu_paper"])
def test_without_a_gpu_it_says_so(module, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark", "--out", str(tmp_path / "out")])
    assert module.main() == module.NO_GPU == 3
    assert "no CUDA device is present" in capsys.readouterr().out


def test_paper_scale_experiments_are_the_full_schedule():
    found = dict(paper.experiments("cpu"))
    assert next(iter(found)) == "cifar10-bpda"
    assert {e.purifier.total_steps for e in found.values()} == {10_000}
    assert [t.attack.eps for t in found["cifar10-bpda"].threats] == [0.031, 0.05]
    assert found["cifar10-bpda"].limit == 200


def test_a_run_that_is_cut_off_goes_on(monkeypatch, tmp_path, capsys):
    digits = dict(paper.experiments("cpu"))["digits-bpda"]
    digits = replace(digits, threats=digits.threats[:1])
    monkeypatch.setattr(paper, "experiments", lambda device: iter([("digits", digits)]))
    command = ["gpu_paper.py", "--out", str(tmp_path), "--device", "cpu", "--dry-run"]
    monkeypatch.setattr("sys.argv", [*command, "--seconds", "-1"])
    assert paper.main() == 0
    assert "the time is over at digits" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", command)
    for _ in range(2):
        assert paper.main() == 0
        assert "digits: 4 rows" in capsys.readouterr().out
