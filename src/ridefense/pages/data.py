"""A document as JSON, and a table as CSV: what programs read."""

import csv
import json
from io import StringIO
from typing import Any

from ridefense.pages.cells import Cell, Link
from ridefense.pages.document import (
    Block,
    Card,
    Document,
    Figure,
    Gallery,
    Section,
    Table,
    Text,
)

_BOUNDED = ("interval", "difference")


def as_json(document: Document) -> str:
    """Titles, texts and tables; of figures and galleries what they show, without the images.

    The same document gives the same bytes.
    """
    plain = {
        "title": document.title,
        "subtitle": document.subtitle,
        "links": [_link(link) for link in document.links],
        "provenance": dict(document.provenance),
        "blocks": [_block(block) for block in document.blocks],
    }
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(table: Table) -> str:
    """A header and a line for each row.

    A text cell is its lines, separated by "; ". A number cell is its value. An interval
    or a difference takes three columns: the value, its lower and its upper bound, as fractions.
    What has no value is empty.
    """
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    header: list[str] = []
    for column in table.columns:
        header.append(column.title)
        if column.kind in _BOUNDED:
            header += [f"{column.title}, low", f"{column.title}, high"]
    writer.writerow(header)
    for row in table.rows:
        line: list[str | float | None] = []
        for column, cell in zip(table.columns, row, strict=True):
            if column.kind == "text":
                line.append("; ".join((cell.text, *cell.notes)))
            else:
                line.append(cell.value)
            if column.kind in _BOUNDED:
                line += cell.bounds or (None, None)
        writer.writerow(line)
    return file.getvalue()


def _block(block: Block) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": block.kind}
    match block:
        case Section():
            plain["title"] = block.title
            plain["links"] = [_link(link) for link in block.links]
            plain["blocks"] = [_block(inner) for inner in block.blocks]
            return plain
        case Table():
            titles = [column.title for column in block.columns]
            plain["columns"] = [{"title": c.title, "kind": c.kind} for c in block.columns]
            plain["rows"] = [
                {title: _cell(cell) for title, cell in zip(titles, row, strict=True)}
                for row in block.rows
            ]
        case Text():
            return plain | {"style": block.style, "lines": list(block.lines)}
        case Gallery():
            plain["cards"] = [_card(card) for card in block.cards]
        case Figure():
            plain["file"] = block.name
    return plain | {"title": block.title, "text": block.text}


def _cell(cell: Cell) -> dict[str, Any]:
    plain: dict[str, Any] = {"text": cell.text}
    if cell.notes:
        plain["notes"] = list(cell.notes)
    if cell.value is not None:
        plain["value"] = cell.value
    if cell.bounds is not None:
        plain["interval"] = list(cell.bounds)
    return plain


def _card(card: Card) -> dict[str, Any]:
    shown = {p.title: p.prediction for p in card.pictures if p.prediction}
    return {"image": card.number, "title": card.title, "failed": card.failed, "predictions": shown}


def _link(link: Link) -> dict[str, str]:
    return {"page": link.page, "title": link.title}
