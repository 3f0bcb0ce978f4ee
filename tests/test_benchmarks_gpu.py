"""What the GPU benchmarks write where they are cut off, as far as it can be seen without a GPU."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gpu = load("gpu")


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
def test_without_a_gpu_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["gpu.py", "--out", str(tmp_path / "gpu.json")])
    assert gpu.main() == gpu.NO_GPU
    assert "no CUDA device is present" in capsys.readouterr().out
