"""The committed page is what the committed records say."""

from pathlib import Path

import pytest

from published import unpack
from ridefense.audit import write

pytestmark = pytest.mark.slow

RECORDS = Path(__file__).parent.parent / "docs" / "records"


@pytest.mark.parametrize(
    "page", sorted(RECORDS.glob("audit*/audit.md")), ids=lambda p: p.parent.name
)
def test_the_page_follows_from_its_records(page, tmp_path):
    unpack(page.parent / "records.tar.xz", tmp_path)
    write(tmp_path)
    assert (tmp_path / "audit.md").read_text() == page.read_text()
