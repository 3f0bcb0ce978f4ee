"""What is committed: small, and nothing twice."""

import subprocess
from pathlib import Path

import pytest

from published import RECORDS, pack, unpack
from ridefense.evaluate.rows import Row

ROOT = Path(__file__).parent.parent
LIMIT = 12_000_000
"""Bytes of the tracked tree."""


@pytest.fixture(scope="module")
def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.exists()]


def test_the_tree_is_small(tracked):
    assert sum(path.stat().st_size for path in tracked) < LIMIT


def test_no_picture_is_stored_twice(tracked):
    pictures = [p for p in tracked if p.suffix in {".svg", ".webp", ".png", ".jpg"}]
    assert len({path.with_suffix("") for path in pictures}) == len(pictures)


def test_unpacked_records_are_those_that_were_packed(tmp_path):
    unpack(RECORDS / "audit-mnist-fast-exact" / "records.tar.xz", tmp_path / "one")
    rows = [p.read_bytes().splitlines() for p in (tmp_path / "one").rglob("records.jsonl")]
    assert sum(len({Row.parse(line).key for line in lines}) for lines in rows) == 480

    pack(tmp_path / "one", tmp_path / "again.tar.xz")
    unpack(tmp_path / "again.tar.xz", tmp_path / "two")
    content = [
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in (tmp_path / "one", tmp_path / "two")
    ]
    assert content[0] == content[1]


def test_a_line_that_would_not_come_back_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "records.jsonl").write_text('{"image": 1, "checksum": "0"}\n')
    with pytest.raises(ValueError, match="run"):
        pack(tmp_path / "run", tmp_path / "records.tar.xz")
