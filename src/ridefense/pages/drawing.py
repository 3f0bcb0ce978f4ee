"""Figures by matplotlib: curves with intervals, distributions, grids of images.

Their files depend on what is drawn alone: no dates and no random names.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from itertools import cycle
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from ridefense.pages.cells import Share

COLOURS = (
    "#1f5fa8", "#d1641b", "#2a8a57", "#a03c8c", "#8a6d1c", "#4fa3c7", "#c2405a", "#6b6f78",
    "#7a5fc0", "#5d8f1f", "#b58cc9", "#274b5a", "#d39b2a",
)  # fmt: skip
"""Of lines, in their order; told apart by readers with common colour deficiencies where few."""

MARKERS = "osD^vPX<>h*dp"

_STYLE: dict[Any, Any] = {  # matplotlib types its settings by a literal of all their names
    "svg.hashsalt": "ridefense",  # names inside the file, which are random otherwise
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of classes may have dollar signs
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "legend.fontsize": 7.5,
}

_FEW = 12  # points of a curve that are drawn one by one, with their intervals as bars


class Point(NamedTuple):
    """A point of a curve and its interval; no interval where the bounds are y itself."""

    x: float
    y: float
    low: float
    high: float

    @classmethod
    def at(cls, x: float, y: float) -> "Point":
        return cls(x, y, y, y)

    @classmethod
    def percent(cls, x: float, accuracy: Share) -> "Point":
        """A share and its interval, in per cent."""
        low, high = accuracy.interval
        return cls(x, 100 * accuracy.fraction, 100 * low, 100 * high)


Curve = Sequence[Point]


def curves(
    panels: Mapping[str, Mapping[str, Curve]],
    x: str,
    y: str,
    *,
    highlight: str = "",
    dashed: Sequence[str] = (),
    log: bool = False,
    y_range: tuple[float, float] | None = None,
) -> Figure:
    """Curves with their intervals, one panel beside the other on the same vertical axis.

    Curves of few points have markers and bars, others a band.

    Args:
        panels: curves by name, by the panel's title.
        x, y: the axes' labels.
        highlight: name of the curve that is drawn in front of the others and thicker.
        dashed: names of curves that are drawn dashed.
        log: whether the horizontal axis is logarithmic, with ticks where there are points.
        y_range: of the vertical axis; by default what the curves take.
    """
    names = list(dict.fromkeys(name for drawn in panels.values() for name in drawn))
    if highlight in names:  # first in colour, last in drawing
        names = [highlight, *(name for name in names if name != highlight)]
    looks = dict(zip(names, zip(cycle(COLOURS), cycle(MARKERS)), strict=False))
    with mpl.rc_context(_STYLE):
        columns = _columns(names, len(panels))
        height = 3.4 + 0.17 * -(-len(names) // columns)
        figure = Figure(figsize=(2.2 + 3.8 * len(panels), height), layout="constrained")
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        handles: dict[str, Line2D] = {}
        for axes, (title, drawn) in zip(row, panels.items(), strict=True):
            for name, points in drawn.items():
                handles[name] = _curve(
                    axes,
                    name,
                    points,
                    looks[name],
                    dashed=name in dashed,
                    thick=name == highlight,
                )
            axes.set(title=title, xlabel=x)
            if log:
                axes.set_xscale("log")
                axes.set_xticks(sorted({p.x for points in drawn.values() for p in points}))
                axes.set_xticks([], minor=True)
                axes.xaxis.set_major_formatter("{x:g}")
        row[0].set_ylabel(y)
        if y_range:
            row[0].set_ylim(*y_range)
        shown = [name for name in names if name in handles]
        lines = [handles[name] for name in shown]
        figure.legend(lines, shown, loc="outside lower center", ncols=columns)
    return figure


def _columns(names: Sequence[str], panels: int) -> int:
    """Of a legend below so many panels, as far as the longest name lets them stand side by side."""
    longest = max(map(len, names), default=0)
    return max(1, min(len(names), 110 * panels // (longest + 7)))


def _curve(
    axes: Axes, name: str, points: Curve, look: tuple[str, str], *, dashed: bool, thick: bool
) -> Line2D:
    """Draws a curve; its line."""
    colour, marker = look
    x, y = [p.x for p in points], [p.y for p in points]
    few = len(points) <= _FEW
    (line,) = axes.plot(
        x,
        y,
        label=name,
        color=colour,
        linestyle="--" if dashed else "-",
        linewidth=2.6 if thick else 1.2,
        marker=marker if few else "",
        markersize=4,
        zorder=4 if thick else 3,
    )
    if any(p.low < p.high for p in points):
        low, high = [p.low for p in points], [p.high for p in points]
        if few:
            axes.vlines(x, low, high, color=colour, linewidth=0.7, alpha=0.7)
        else:
            axes.fill_between(x, low, high, alpha=0.09, color=colour, linewidth=0)
    return line


def distributions(panels: Mapping[str, Mapping[str, Sequence[float]]], x: str) -> Figure:
    """Histograms of the same bins, one panel above the other, by title.

    Args:
        panels: values by name, by the panel's title.
        x: the horizontal axis's label.
    """
    top = max((v for drawn in panels.values() for s in drawn.values() for v in s), default=1.0)
    bins = [top * i / 40 for i in range(41)]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 1.1 + 1.5 * len(panels)), layout="constrained")
        column = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, drawn) in zip(column, panels.items(), strict=True):
            for (name, values), colour in zip(drawn.items(), cycle(COLOURS), strict=False):
                label = f"{name} ({len(values)})"
                axes.hist(
                    values, bins, label=label, alpha=0.55, color=colour, histtype="stepfilled"
                )
            axes.set_title(title, fontsize=9, loc="left")
            axes.legend()
        column[-1].set_xlabel(x)
    return figure


@dataclass(frozen=True)
class Shown:
    """An image [C, H, W] in [0, 1] with what is written above it."""

    image: Tensor
    caption: str
    wrong: bool = False


def grid(rows: Mapping[str, Sequence[Shown | None]]) -> Figure:
    """Rows of images by their titles; captions of wrong predictions are red."""
    width = max(len(row) for row in rows.values())
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(1.5 + 0.95 * width, 1.12 * len(rows)), layout="constrained")
        table = figure.subplots(len(rows), width, squeeze=False)
        for line, (title, row) in zip(table, rows.items(), strict=True):
            for axes in line:
                axes.set_axis_off()
            for axes, shown in zip(line, row, strict=False):
                if shown:
                    _image(axes, shown)
            line[0].text(
                -0.12, 0.5, title, transform=line[0].transAxes, ha="right", va="center", fontsize=7
            )
    return figure


def _image(axes: Axes, shown: Shown) -> None:
    pixels = shown.image.float().clamp(0, 1).numpy()
    if len(pixels) == 1:
        axes.imshow(pixels[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(pixels.transpose(1, 2, 0), interpolation="nearest")
    colour = "#b3261e" if shown.wrong else "#1d1f23"
    axes.set_title(shown.caption, fontsize=6, color=colour, pad=2)


def as_svg(figure: Figure) -> str:
    """An SVG element."""
    file = StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(
            file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    text = file.getvalue()
    return compact(text[text.index("<svg") :])


_INDENTED = re.compile(r"\n\s+")
_PLACED = re.compile(r'(?<= )(?:d|x|y)="[^"]*"')
_PATH = re.compile(r" ?\n(?=[MLQCZ])")
_PRECISE = re.compile(r"-?\d+\.\d{2,}")


def compact(svg: str) -> str:
    """An SVG of matplotlib without indentation, its coordinates in tenths of a point."""

    def rounded(number: re.Match[str]) -> str:
        return f"{float(number[0]):.1f}".removesuffix(".0")

    lines = _PATH.sub(" ", _INDENTED.sub("\n", svg))
    return _PLACED.sub(lambda attribute: _PRECISE.sub(rounded, attribute[0]), lines)


def as_webp(figure: Figure) -> bytes:
    """120 dots an inch, with or without loss, whichever is smaller."""
    return min((_webp(figure, lossless) for lossless in (True, False)), key=len)


def _webp(figure: Figure, lossless: bool) -> bytes:
    file = BytesIO()
    options = {"lossless": lossless, "quality": 70, "method": 6}
    with mpl.rc_context(_STYLE):
        figure.savefig(file, format="webp", dpi=120, pil_kwargs=options)
    return file.getvalue()
