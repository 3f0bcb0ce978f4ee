"""A document as text for a terminal, by rich."""

from io import StringIO
from typing import TYPE_CHECKING

from ridefense.pages.cells import Cell
from ridefense.pages.document import Column, Document, Section, Table, Text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Rich


def as_terminal(document: Document, width: int | None = None, *, colour: bool = False) -> str:
    """Titles, texts and tables; figures and galleries are left out.

    Tables fit the width. Lines of text are not wrapped, so that a program that reads them gets
    each whole.

    Args:
        width: in characters; by default the terminal's, and 80 where there is none.
        colour: whether to use the terminal's styles.
    """
    from rich.console import Console

    file = StringIO()
    console = Console(
        file=file, width=width, force_terminal=colour, highlight=False, emoji=False, markup=False
    )
    if document.title:
        _line(console, document.title, "bold")
    if document.subtitle:
        _line(console, document.subtitle)
    for block, _ in document.walk():
        if isinstance(block, Text):
            for line in block.lines:
                _line(console, f"· {line}" if block.style == "list" else line)
        elif isinstance(block, Table | Section):
            if block.title:
                _line(console, f"\n{block.title}", "bold")
            if isinstance(block, Table):
                console.print(_table(block))
                if block.text:
                    _line(console, f"· {block.text}")
    for name, value in document.provenance.items():
        _line(console, f"{name}: {value}", "dim")
    return file.getvalue()


def _line(console: "Console", text: str, style: str = "") -> None:
    console.print(text, style=style, soft_wrap=True)


def _table(table: Table) -> "Rich":
    from rich.box import HORIZONTALS
    from rich.table import Table as Rich
    from rich.text import Text as Line

    shown = Rich(show_lines=True, box=HORIZONTALS, pad_edge=False, padding=0)  # a space apart
    for number, column in enumerate(table.columns):
        cells = [row[number] for row in table.rows]
        right = column.kind == "number"
        shown.add_column(
            Line(column.title),
            justify="right" if right else "left",
            min_width=_width(column, cells),
        )
    for row in table.rows:
        shown.add_row(*(Line("\n".join((cell.text, *cell.notes))) for cell in row))
    return shown


def _width(column: Column, cells: list[Cell]) -> int | None:
    """Numbers and intervals are never broken over lines; text is, between its words."""
    if column.kind == "text":
        return None
    return max((len(line) for cell in cells for line in (cell.text, *cell.notes)), default=None)
