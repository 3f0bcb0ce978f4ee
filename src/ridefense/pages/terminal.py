"""A document in a terminal, by rich."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ridefense.pages.document import Block, Cell, Column, Document, Section, Table, Text

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table as Rich


def as_terminal(document: Document) -> "Group":
    """What a `rich.console.Console` prints: titles, texts and tables.

    Lines of text are not wrapped, so that a pipe gets each whole. Figures and galleries are left
    out.
    """
    from rich.console import Group

    return Group(*_lines(document))


def _lines(document: Document) -> Iterator["RenderableType"]:
    if document.title:
        yield _line(document.title, "bold")
    if document.subtitle:
        yield _line(document.subtitle)
    for block, _ in document.walk():
        yield from _block(block)
    for name, value in document.provenance.items():
        yield _line(f"{name}: {value}", "dim")


def _block(block: Block) -> Iterator["RenderableType"]:
    match block:
        case Text():
            mark = "· " if block.style == "list" else ""
            for line in block.lines:
                yield _line(f"{mark}{line}")
        case Table() | Section():
            if block.title:
                yield _line(f"\n{block.title}", "bold")
            if isinstance(block, Table):
                yield _table(block)
                if block.text:
                    yield _line(f"· {block.text}")


def _line(text: str, style: str = "") -> "RenderableType":
    from rich.text import Text as Line

    return Line(text, style, no_wrap=True, overflow="ignore", end="\n")


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
