"""Publishes the board: its records, and the pages that follow from them.

    python benchmarks/board.py runs/board

takes what `ridefense board --run NAME --out runs/board` has made, packs it into
`docs/records/board`, and writes the tables of `docs/board.md` and the whole board from these
records and those of the audits that other pages publish.
"""

import argparse
import runpy
import tempfile
from pathlib import Path

from ridefense.board import compose, read_entries, summary
from ridefense.pages import Document, as_markdown, write

DOCS = Path(__file__).parent.parent / "docs"
RECORDS = DOCS / "records"
PAGE = DOCS / "board.md"
BEGIN, END = "<!-- entries: ", "<!-- end of entries -->"
"""What docs/board.md has between them follows from the records."""


def publish(folder: Path | None) -> None:
    """Pack records, where a folder of them is given, and write the pages of all that are packed."""
    pack = runpy.run_path(str(RECORDS / "pack.py"))
    board = RECORDS / "board"
    if folder is not None:
        pack["pack"](folder, board / "records.tar.xz")
    with tempfile.TemporaryDirectory() as unpacked:
        for own in (board, *sorted(RECORDS.glob("audit*"))):
            pack["unpack"](own / "records.tar.xz", Path(unpacked) / own.name)
        entries = read_entries([unpacked])
    write(compose(entries), board, "board", ("md",))
    tables = as_markdown(Document("", tuple(summary(entries).tables))).removeprefix("# \n").strip()
    before, _, rest = PAGE.read_text().partition(BEGIN)
    note, _, rest = rest.partition("\n")
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{note}\n\n{tables}\n\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", help="what `ridefense board` took as --out  [pages alone]"
    )
    publish(parser.parse_args().folder)


if __name__ == "__main__":
    main()
