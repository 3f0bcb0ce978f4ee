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


def test_the_document_follows_from_the_records(published):
    _, _, page = as_markdown(compose(*published)).partition("\n")
    assert DOCUMENT.read_text().partition("## What was found\n")[2] == page
    assert page.count("\n| ") >= 50


def test_no_mirage_keeps_more_than_the_truth_unless_the_page_says_so(published):
    _, found = published
    told = DOCUMENT.read_text()
    for one in found:
        assert one.holds or f"**{one.sample.name} " in told
