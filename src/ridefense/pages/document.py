"""What a page holds, independent of how it is rendered.

A `Document` is a title and blocks. Renderers turn it into HTML, Markdown, a terminal's text, JSON
and CSV. A document is a value: equal documents give equal bytes in every rendering.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from ridefense.pages.cells import Cell, Link

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

Style = Literal["plain", "quiet", "answer", "list"]
Kind = Literal["text", "number", "interval", "difference"]


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, and what its cells are.

    "text" is sorted as text. "number" is aligned to the right and sorted by `Cell.value`.
    "interval" is a share with its bounds, drawn as a bar in HTML and three columns in CSV;
    "difference" is the same of a difference of two shares.
    """

    title: str
    kind: Kind = "text"


@dataclass(frozen=True, init=False)
class Table:
    """Rows of cells under typed columns.

    Attributes:
        title: the heading above the table.
        columns: a plain string is a column of text.
        rows: a plain string is a cell of text.
        text: what the table shows.
    """

    kind: ClassVar = "table"
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    text: str = ""

    def __init__(
        self,
        title: str,
        columns: Sequence[str | Column],
        rows: Sequence[Sequence[str | Cell]],
        text: str = "",
    ) -> None:
        values = {
            "title": title,
            "columns": tuple(Column(c) if isinstance(c, str) else c for c in columns),
            "rows": tuple(tuple(Cell(c) if isinstance(c, str) else c for c in r) for r in rows),
            "text": text,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if wrong := {len(row) for row in self.rows} - {len(self.columns)}:
            raise ValueError(f"rows of {sorted(wrong)} cells under {len(self.columns)} columns")


@dataclass(frozen=True)
class Figure:
    """A figure that matplotlib draws when it is first needed.

    Attributes:
        title: the heading above the figure.
        draw: makes the drawing.
        text: what it shows.
        raster: written as WebP rather than SVG; for figures that consist of images.
    """

    kind: ClassVar = "figure"
    title: str
    draw: Callable[[], "Drawing"] = field(compare=False)
    text: str = ""
    raster: bool = False

    @cached_property
    def drawing(self) -> "Drawing":
        return self.draw()

    @cached_property
    def content(self) -> bytes:
        """The figure's file: SVG, or WebP where it is a raster."""
        from ridefense.pages.drawing import as_svg, as_webp

        return as_webp(self.drawing) if self.raster else as_svg(self.drawing).encode()

    @property
    def name(self) -> str:
        """Of the figure's file."""
        return f"{slug(self.title)}.{'webp' if self.raster else 'svg'}"


@dataclass(frozen=True)
class Picture:
    """A small image on a card.

    Attributes:
        title: as "clean" or "perturbation ×5".
        content: the image as WebP.
        prediction: what a classifier took it for; empty where it was not asked.
        wrong: whether the prediction is wrong.
    """

    title: str
    content: bytes = field(repr=False)
    prediction: str = ""
    wrong: bool = False


@dataclass(frozen=True)
class Card:
    """One image of a data set in several versions, as clean, attacked and purified."""

    title: str
    number: int
    pictures: tuple[Picture, ...]
    failed: bool = False


@dataclass(frozen=True)
class Gallery:
    """Cards side by side; in HTML alone."""

    kind: ClassVar = "gallery"
    title: str
    cards: tuple[Card, ...]
    text: str = ""


@dataclass(frozen=True)
class Text:
    """Paragraphs, or the items of a list.

    Attributes:
        lines: one a paragraph or item.
        style: "quiet" is smaller; "answer" is set off as the page's main statement; "list" makes
            items.
    """

    kind: ClassVar = "text"
    title: ClassVar = ""
    lines: tuple[str, ...]
    style: Style = "plain"

    @classmethod
    def of(cls, *lines: str, style: Style = "plain") -> "Text":
        return cls(lines, style)


@dataclass(frozen=True)
class Section:
    """Blocks under a heading, and links to where there is more about them."""

    kind: ClassVar = "section"
    title: str
    blocks: tuple["Block", ...]
    links: tuple[Link, ...] = ()


Block: TypeAlias = Section | Text | Table | Figure | Gallery
"""A part of a document."""


@dataclass(frozen=True)
class Document:
    """A page.

    Attributes:
        title: the page's heading.
        blocks: what it consists of, in order.
        subtitle: one sentence below the title.
        links: to the pages that this one is part of.
        provenance: what made the page's records: values by name, as "Command" or "Date".
    """

    title: str
    blocks: tuple[Block, ...]
    subtitle: str = ""
    links: tuple[Link, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def walk(self) -> Iterator[tuple[Block, int]]:
        """All blocks with the level of their heading, from 2, in the page's order."""
        yield from _walk(self.blocks, 2)

    @property
    def tables(self) -> list[Table]:
        return [block for block, _ in self.walk() if isinstance(block, Table)]

    @property
    def figures(self) -> list[Figure]:
        return [block for block, _ in self.walk() if isinstance(block, Figure)]


def _walk(blocks: Sequence[Block], level: int) -> Iterator[tuple[Block, int]]:
    for block in blocks:
        yield block, level
        if isinstance(block, Section):
            yield from _walk(block.blocks, level + 1)


def slug(title: str) -> str:
    """A title as part of a file's name or of a link: lower-case letters, digits and hyphens."""
    spelled = title.lower().translate(_SPELLED)
    return re.sub(r"[^a-z0-9]+", "-", spelled).strip("-") or "untitled"


_SPELLED = str.maketrans(
    {"ε": "eps", "σ": "sigma", "α": "alpha", "θ": "theta", "ℓ": "l", "∞": "inf"}
)
