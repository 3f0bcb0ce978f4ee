from .cells import NOTHING, Cell, Link, difference, interval, number, percent, seconds, share
from .data import as_csv, as_json
from .document import (
    Block,
    Card,
    Column,
    Document,
    Figure,
    Gallery,
    Picture,
    Section,
    Table,
    Text,
    slug,
)
from .html import as_html
from .markdown import as_markdown
from .provenance import made_by
from .terminal import as_terminal
from .writing import write

__all__ = [
    "NOTHING",
    "Block",
    "Card",
    "Cell",
    "Column",
    "Document",
    "Figure",
    "Gallery",
    "Link",
    "Picture",
    "Section",
    "Table",
    "Text",
    "as_csv",
    "as_html",
    "as_json",
    "as_markdown",
    "as_terminal",
    "difference",
    "interval",
    "made_by",
    "number",
    "percent",
    "seconds",
    "share",
    "slug",
    "write",
]
