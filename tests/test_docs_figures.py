"""Shares with their intervals, in prose, are those of the pages that are made from records."""

import re
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
