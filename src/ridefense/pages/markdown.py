"""A document as Markdown, for a repository and for the documentation site."""

import html
import re
from collections.abc import Iterator, Sequence

from ridefense.pages.cells import Cell, Link
from ridefense.pages.document import (
    Block,
    Document,
    Figure,
    Gallery,
    Section,
    Table,
    Text,
)

_SUFFIX = ".md"

_MARKS = r"[\\`*~]|(?<!\w)_|_(?!\w)"
_MEANT = re.compile(_MARKS + r"|(?<=\])(?=[(\[:])")
"""What Markdown would read as emphasis, code, an escape or a link."""

_MEANT_IN_LINKS = re.compile(_MARKS + r"|[\[\]]")

_LEADING = re.compile(r"(?:#{1,6}|\+|-+|\d+[.)]|=+)(?=\s|$)")
"""What makes a line a heading, a list item or a rule."""


def as_markdown(document: Document) -> str:
    """CommonMark with tables. Figures are files beside the page; galleries are left out."""
    return "\n\n".join(_document(document)) + "\n"


def escape(text: str, meant: re.Pattern[str] = _MEANT) -> str:
    """Text that is shown as it is: neither Markdown nor HTML, and on one line."""
    line = " ".join(html.escape(text, quote=False).split())
    line = meant.sub(lambda found: f"\\{found[0]}", line).replace("|", "\\|")
    if found := _LEADING.match(line):
        mark = found.end() - 1
        return f"{line[:mark]}\\{line[mark:]}"
    return line


def _document(document: Document) -> Iterator[str]:
    yield f"# {escape(document.title)}"
    if links := _links(document.links):
        yield links
    if document.subtitle:
        yield escape(document.subtitle)
    for block, level in document.walk():
        yield from _block(block, level)
    if document.provenance:
        yield "## How this page was made"
        yield _items([f"{name}: {value}" for name, value in document.provenance.items()])


def _block(block: Block, level: int) -> Iterator[str]:
    if isinstance(block, Gallery):
        return
    if block.title:
        yield f"{'#' * level} {escape(block.title)}"
    match block:
        case Section():
            if links := _links(block.links):
                yield links
        case Text():
            yield from _text(block)
        case Table() | Figure():
            if block.text:
                yield escape(block.text)
            yield _table(block) if isinstance(block, Table) else _figure(block)


def _text(text: Text) -> Iterator[str]:
    if text.style == "list":
        yield _items(text.lines)
        return
    bold = "**" if text.style == "answer" else ""
    for line in text.lines:
        yield f"{bold}{escape(line)}{bold}"


def _items(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _figure(figure: Figure) -> str:
    return f"![{escape(figure.title)}]({figure.name})"


def _table(table: Table) -> str:
    marks = {"text": "---", "number": "---:", "interval": "---", "difference": "---"}
    lines = [
        [escape(column.title) for column in table.columns],
        [marks[column.kind] for column in table.columns],
        *([_cell(cell) for cell in row] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    link = cell.link if cell.link and not cell.link.html_only else None
    first = _link(cell.text, link) if link else escape(cell.text)
    return "<br>".join([first, *map(escape, cell.notes)])


def _links(links: Sequence[Link]) -> str:
    return " · ".join(_link(link.title, link) for link in links if not link.html_only)


def _link(text: str, link: Link) -> str:
    return f"[{escape(text, _MEANT_IN_LINKS)}]({link.to(_SUFFIX)})"
