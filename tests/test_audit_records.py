"""The committed page is what the committed records say."""

from pathlib import Path

import pytest

from published import unpack
from ridefense.audit import compose, conclude, gather
from ridefense.pages import as_markdown

pytestmark = pytest.mark.slow

RECORDS = Path(__file__).parent.parent / "docs" / "records"


@pytest.mark.parametrize(
    "page", sorted(RECORDS.glob("audit*/audit.md")), ids=lambda p: p.parent.name
)
def test_the_page_follows_from_its_records(page, tmp_path):
    unpack(page.parent / "records.tar.xz", tmp_path)
    found = compose(conclude(gather(tmp_path)))
    assert as_markdown(found) == page.read_text()
    for figure in found.figures:
        assert (page.parent / figure.name).stat().st_size
