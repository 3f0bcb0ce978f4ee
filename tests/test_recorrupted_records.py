"""The figures of `Recorrupted` in the documentation are those of its records."""

import runpy
from pathlib import Path

import pytest

from published import RECORDS, unpack

pytestmark = pytest.mark.slow

TOP = Path(__file__).parent.parent


def test_the_tables_of_the_documentation_are_those_of_the_records(tmp_path):
    unpack(RECORDS / "recorrupted/records.tar.xz", tmp_path)
    table = runpy.run_path(str(TOP / "benchmarks/recorrupted.py"))["table"]
    rows = table(tmp_path).splitlines()
    assert len(rows) > 20
    told = (TOP / "docs/schedule.md").read_text().splitlines()
    assert [row for row in rows if row not in told] == []
