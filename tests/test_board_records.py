"""The published board is what the published records say."""

import pytest

from published import RECORDS, unpack
from ridefense.board import compose, read_entries, summary
from ridefense.pages import Document, as_markdown

pytestmark = pytest.mark.slow

PAGE = RECORDS.parent / "board.md"
BEGIN, END = "<!-- entries: ", "<!-- end of entries -->"


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """Of the board's own audits and of those that other pages publish."""
    folder = tmp_path_factory.mktemp("board")
    for archive in (RECORDS / "board", *RECORDS.glob("audit*")):
        unpack(archive / "records.tar.xz", folder / archive.name)
    return read_entries([folder])


def tables_of(entries):
    """As docs/board.md shows them, without the page's heading."""
    return as_markdown(Document("", tuple(summary(entries).tables))).removeprefix("# \n").strip()


def test_the_whole_board_follows_from_its_records(entries):
    page = compose(entries)
    assert as_markdown(page) == (RECORDS / "board" / "board.md").read_text()
    for figure in page.figures:
        assert (RECORDS / "board" / figure.name).stat().st_size


def test_the_tables_of_the_documentation_are_those_of_the_records(entries):
    _, _, rest = PAGE.read_text().partition(BEGIN)
    shown, end, _ = rest.partition(END)
    assert end
    assert shown.partition("\n")[2].strip() == tables_of(entries)


def test_every_kind_of_purifier_has_an_entry(entries):
    titles = {entry.defence.short_title for entry in entries}
    assert titles >= {"RIDE", "DAE", "I-DIP", "DIP", "JPEG 20", "non-local means 0.1", "none"}
    assert all(entry.robust.n >= 32 for entry in entries)
