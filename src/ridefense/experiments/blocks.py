"""What a page is made of: tables, and figures as the paper has them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from matplotlib.figure import Figure

from ridefense.report.drawing import as_svg
from ridefense.report.summary import Line
from ridefense.report.tables import ROBUST, Cell, cells, percent


@dataclass(frozen=True)
class Table:
    """Rows of cells; a cell is one or more lines, of which the first is the main one."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    text: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure, drawn; `text` says what it shows."""

    title: str
    figure: Figure
    text: str = ""

    @property
    def stem(self) -> str:
        """Of its files."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower().replace("ε", "eps")).strip("-")

    @cached_property
    def svg(self) -> str:
        """The figure as an SVG element, for the page and for a file."""
        return as_svg(self.figure)


Block = Table | Picture


def results(title: str, lines: Iterable[Line], text: str = "") -> Table:
    """A table of accuracies: the paper's figure, ours, n, its interval and the difference."""
    rows = [(*cells(line).values(), (line.classifier,)) for line in lines]
    columns = ("Defence", "Attack", "Clean", ROBUST, "n", "s/image", "Paper")
    return Table(title, (*columns, "Classifier"), rows, text)


def matrix(title: str, lines: Iterable[Line], text: str = "") -> Table:
    """A table as the paper's gray-box ones: a row for each defence, a column for each attack."""
    lines = list(lines)
    threats = list(dict.fromkeys(line.threat for line in lines))
    defences: dict[str, dict[str, Line]] = {}
    for line in lines:
        defences.setdefault(line.run, {})[line.threat] = line
    rows = []
    for found in defences.values():
        first = next(iter(found.values()))
        shown = cells(first)
        attacked = [_against(found.get(threat)) for threat in threats]
        n = tuple(dict.fromkeys(told for line in found.values() for told in cells(line)["n"]))
        rows.append((shown["Defence"], n, shown["Clean"], *attacked, shown["s/image"]))
    return Table(title, ("Defence", "n", "Clean", *threats, "s/image"), rows, text)


def _against(line: Line | None) -> Cell:
    """A robust accuracy, the paper's, and the difference."""
    if line is None:
        return ("—",)
    ours = cells(line)[ROBUST]
    if line.paper is None or line.difference is None:
        return ours
    # Of most weights the paper's cells are lost; Table 1 has the best of them.
    filters = ("Median", "TVBregman", "TVChambolle")
    best = line.paper.setting is None and line.paper.defence in filters
    stated = "paper's best" if best else "paper"
    points = f"{100 * line.difference:+.1f}"
    return (*ours, f"{stated} {percent(line.paper.accuracy)}: {points}")
