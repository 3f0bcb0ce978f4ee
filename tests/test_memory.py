"""How much memory a process has used."""

import subprocess
import sys

import pytest

from evaluations import declare
from ridefense.evaluate import run
from ridefense.memory import peak_megabytes

pytest.importorskip("resource", reason="the system does not tell")


@pytest.mark.slow
def test_the_peak_grows_by_what_is_held_and_stays():
    """In a process of its own, whose peak other tests have not raised."""
    source = (
        "from ridefense.memory import peak_megabytes as peak; import torch; before = peak();"
        "held = torch.ones(250 * 2**20); one = peak(); del held; print(before, one, peak())"
    )
    told = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True).stdout
    before, held, after = (float(number) for number in told.split())
    assert 500 < held - before < 1030  # imports leave a peak that a part of it fits under
    assert after > held - 5  # the system counts in batches


@pytest.mark.slow
def test_a_row_tells_it(tmp_path):
    found = run(declare(tmp_path, limit=2), tmp_path / "run").rows
    assert all(100 < row.peak_megabytes <= peak_megabytes() for row in found)
