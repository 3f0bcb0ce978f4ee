"""Numbers as a table or a sentence shows them."""

from typing import Protocol

from ridefense.pages.document import Cell


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
