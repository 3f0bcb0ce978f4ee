"""The published calibration is what its records say."""

import pytest

from published import RECORDS, unpack
from ridefense.calibration import compose, measured
from ridefense.pages import as_markdown

pytestmark = pytest.mark.slow

FOLDER = RECORDS / "calibration"
DOCUMENT = RECORDS.parent / "calibration.md"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    unpack(FOLDER / "records.tar.xz", folder)
    return measured(folder)


def test_the_page_follows_from_its_records(published):
    assert as_markdown(compose(*published)) == (FOLDER / "calibration.md").read_text()


def test_the_document_quotes_the_page(published):
    """The sentences of the result and every line of the tables stand in docs/calibration.md."""
    page = (FOLDER / "calibration.md").read_text()
    quoted = [line for line in page.splitlines() if line.startswith(("| ", "**"))]
    assert len(quoted) >= 40
    told = DOCUMENT.read_text()
    assert [line for line in quoted if line not in told] == []


def test_no_mirage_keeps_more_than_the_truth_unless_the_page_says_so(published):
    _, found = published
    told = DOCUMENT.read_text()
    for one in found:
        assert one.holds or f"**{one.sample.name} " in told
