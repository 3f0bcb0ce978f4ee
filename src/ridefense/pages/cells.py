"""Cells of a table and their links, and numbers as a table or a sentence shows them."""

from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import quote

_OF_ADDRESSES = "/:?#@!$&*+,;=%~"
"""What has a meaning in an address, without quotation marks and brackets."""

Tone = Literal["", "good", "bad"]


@dataclass(frozen=True)
class Link:
    """A link to another page.

    Attributes:
        page: path of the page relative to this one, without a suffix; each renderer adds its own.
            Or an address on the web, which stays as it is.
        title: what the link says; a cell's link says the cell's text instead.
        html_only: the page exists in HTML alone. The other renderings leave the link out.
    """

    page: str
    title: str = ""
    html_only: bool = False

    def to(self, suffix: str) -> str:
        """The link's target, quoted, in the rendering of this suffix, ".html" or ".md"."""
        if self.page.startswith(("https://", "http://")):
            return quote(self.page, safe=_OF_ADDRESSES)
        return quote(self.page) + suffix


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: the main line.
        notes: smaller lines below it.
        value: the number that the cell is sorted by and that JSON and CSV hold; a fraction in
            [0, 1] in an interval column. None where there is none.
        bounds: of the interval around `value`, as fractions.
        link: where the text leads.
        tone: how HTML colours the text.
    """

    text: str
    notes: tuple[str, ...] = ()
    value: float | None = None
    bounds: tuple[float, float] | None = None
    link: Link | None = None
    tone: Tone = ""


class Share(Protocol):
    """A share of n images with its interval, as `Accuracy` is one."""

    @property
    def fraction(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float]: ...


NOTHING = Cell("—")
"""A cell without a value."""


def percent(share: float, digits: int = 1) -> str:
    """As "37.5%"."""
    return f"{100 * share:.{digits}f}%"


def interval(accuracy: Share) -> str:
    """As "[91.5, 99.4]", in per cent."""
    low, high = accuracy.interval
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def seconds(value: float) -> str:
    """Two significant digits; "<0.001" for what is too short to matter."""
    if value < 0.001:
        return "<0.001"
    return f"{value:.2g}" if value < 99.5 else f"{value:.0f}"


def number(value: float, text: str | None = None, *notes: str) -> Cell:
    """A cell of a number column; by default it shows the number itself."""
    return Cell(f"{value:g}" if text is None else text, notes, value)


def difference(value: float, bounds: tuple[float, float], *notes: str) -> Cell:
    """A cell of a difference column, as "+37.5" above "[12.1, 60.0]", in points."""
    low, high = bounds
    lines = (f"[{100 * low:.1f}, {100 * high:.1f}]", *notes)
    return Cell(f"{100 * value:+.1f}", lines, value, bounds)


def share(accuracy: Share, *notes: str, spread: float | None = None) -> Cell:
    """A cell of an interval column, as "37.5%" above "[12.1, 70.0]".

    Args:
        spread: the standard deviation between draws, shown beside the share.
    """
    text = percent(accuracy.fraction)
    if spread is not None:
        text += f" ± {100 * spread:.1f}"
    lines = (interval(accuracy), *notes)
    return Cell(text, lines, accuracy.fraction, accuracy.interval)
