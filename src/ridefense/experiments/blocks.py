"""What a page is made of: tables, and figures as the paper has them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from matplotlib.figure import Figure

from ridefense.report.drawing import as_svg
from ridefense.report.summary import Line
from ridefense.report.tables import ROBUST, Cell, cells, departures, percent


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
    columns = ("Defence", "Attack", "Clean", ROBUST, "n", "s/image", "Paper", "Classifier")
    rows = [tuple(cells(line)[column] for column in columns) for line in lines]
    return Table(title, columns, rows, text)


def matrix(title: str, lines: Iterable[Line], text: str = "", *, by_ball: bool = False) -> Table:
    """A table as the paper's gray-box ones: a row for each defence, a column for each attack.

    Args:
        by_ball: a column for each norm and ε instead; whose attack it is stands with the defence.
    """
    lines = list(lines)

    def column(line: Line) -> str:
        return line.threat.partition(", ")[2] if by_ball else line.threat

    threats = list(dict.fromkeys(map(column, lines)))
    defences: dict[str, dict[str, Line]] = {}
    for line in lines:
        defences.setdefault(line.run, {})[column(line)] = line
    rows = []
    for found in defences.values():
        first = next(iter(found.values()))
        shown = cells(first)
        attacked = [_against(found.get(threat)) for threat in threats]
        n = tuple(dict.fromkeys(told for line in found.values() for told in cells(line)["n"]))
        name, *more = shown["Defence"]
        if first.defence == "none" and by_ball:
            name = f"no purifier, {first.classifier}"
        attack = (f"under {first.threat.partition(', ')[0]}",) if by_ball else ()
        rows.append(((name, *more, *attack), n, shown["Clean"], *attacked, shown["s/image"]))
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
    told = f"{stated} {percent(line.paper.accuracy)}: {100 * line.difference:+.1f}"
    return (*ours, *filter(None, (told, departures(line))))
