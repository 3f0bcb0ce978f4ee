"""Drawing: curves with their bands, distributions, and grids of images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ridefense.report.drawing import STYLE

_STYLE = STYLE | {"text.parse_math": False}  # names of classes may have dollar signs

Curve = list[tuple[float, float, float, float]]
"""Points: x, y, and the bounds of y's band."""


def curves(panels: Mapping[str, Mapping[str, Curve]], x: str, y: str) -> Figure:
    """One panel beside the other, by title, with the same axes."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(1.9 + 3.6 * len(panels), 3.2), layout="constrained")
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, drawn) in zip(row, panels.items(), strict=True):
            for name, points in drawn.items():
                _curve(axes, name, points)
            axes.set(title=title, xlabel=x)
        row[0].set_ylabel(y)
        handles = {
            label: handle
            for axes in row
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles, loc="outside right center")
    return figure


def _curve(axes: Axes, name: str, points: Curve) -> None:
    x, y, low, high = zip(*points, strict=True)
    style = "--" if "no dropout" in name else "-"
    (line,) = axes.plot(x, y, label=name, linewidth=1.2, linestyle=style)
    axes.fill_between(x, low, high, alpha=0.08, color=line.get_color(), linewidth=0)


def distributions(panels: Mapping[str, Mapping[str, Sequence[float]]], x: str) -> Figure:
    """Histograms of the same bins, one panel above the other, by title."""
    top = max((v for drawn in panels.values() for s in drawn.values() for v in s), default=1.0)
    bins = [top * i / 40 for i in range(41)]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 1.1 + 1.5 * len(panels)), layout="constrained")
        column = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, drawn) in zip(column, panels.items(), strict=True):
            for name, values in drawn.items():
                label = f"{name} ({len(values)})"
                axes.hist(values, bins, label=label, alpha=0.55, histtype="stepfilled")
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
    """Rows of images by their titles; wrong predictions in red."""
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
