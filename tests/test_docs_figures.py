"""Figures in prose are those of the pages that are made from records, and of measured rows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARE = re.compile(r"(\d+\.\d)%?(?: ± \d+\.\d)? \[(\d+\.\d), (\d+\.\d)\]")


def shares(text):
    return set(SHARE.findall(text.replace("<br>", " ").replace("\n", " ")))


@pytest.fixture(scope="module")
def recorded():
    pages = (ROOT / "docs/records").rglob("*.md")
    return set().union(*(shares(page.read_text()) for page in pages))


@pytest.mark.parametrize(
    "name", ["README.md", "docs/audit.md", "docs/reproduction.md", "docs/results.md"]
)
def test_figures_are_those_of_the_records(name, recorded):
    told = shares((ROOT / name).read_text())
    assert told
    assert not told - recorded


@pytest.mark.slow
def test_the_frontier_is_that_of_its_rows():
    script, rows = ROOT / "benchmarks/frontier_table.py", ROOT / "benchmarks/results"
    command = [sys.executable, script, rows / "frontier.jsonl.xz"]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    told = (ROOT / "docs/schedule.md").read_text().splitlines()
    found = [line for line in made.splitlines() if line.startswith("|")]
    assert len(found) > 20
    assert not set(found) - set(told)
