"""A document as one HTML file that needs nothing else."""

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING

from ridefense.pages.cells import Cell, Link
from ridefense.pages.document import Document, Figure, Kind, slug

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def as_html(document: Document) -> str:
    """A self-contained page: no other file, no network. All text is escaped.

    Its script sorts and filters tables; the page is complete without it.
    """
    return _environment().get_template("page.html").render(page=document)


@cache
def _environment() -> "Environment":
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ridefense.pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    assert environment.loader is not None
    script, _, _ = environment.loader.get_source(environment, "page.js")
    style, _, _ = environment.loader.get_source(environment, "style.css")
    environment.globals |= {
        "script": Markup(script),
        "style": Markup(style),
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src '{_hash(script)}'",
    }
    environment.filters |= {"slug": slug, "href": _href, "picture": _picture, "bar": _bar}
    environment.filters["webp"] = _data_uri
    return environment


def _hash(script: str) -> str:
    """How a content security policy names the one script that may run."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _href(link: Link) -> str:
    return link.to(".html")


def _picture(figure: Figure) -> "Markup | str":
    """The figure's SVG element; nothing for a raster, which is an <img>."""
    from markupsafe import Markup

    if figure.raster:
        return ""
    text = figure.content.decode()
    return Markup(text[text.index("<svg") :])


def _data_uri(content: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def _bar(cell: Cell, kind: Kind) -> dict[str, float] | None:
    """Where the interval and its value lie on an axis of 100 units; a difference of 0 at 50."""
    if cell.value is None or cell.bounds is None:
        return None
    low, value, high = (
        (1 + part) / 2 if kind == "difference" else part
        for part in (cell.bounds[0], cell.value, cell.bounds[1])
    )
    return {
        "low": round(100 * low, 3),
        "width": round(100 * (high - low), 3),
        "at": round(max(100 * value - 0.8, 0), 3),
    }
