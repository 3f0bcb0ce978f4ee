"""What a page is made of: tables, and figures as the paper has them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from matplotlib.figure import Figure as Drawing

from ridefense.report.drawing import as_svg, as_webp
from ridefense.report.paper import Figure
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
    figure: Drawing
    text: str = ""

    @property
    def file_name(self) -> str:
        """The name of its file: WebP if it shows images, SVG if it is drawn of lines."""
        stem = re.sub(r"[^a-z0-9]+", "-", self.title.lower().replace("ε", "eps")).strip("-")
        return f"{stem}.{'webp' if self._has_images else 'svg'}"

    @property
    def content(self) -> bytes:
        """The content of its file."""
        return as_webp(self.figure) if self._has_images else self.svg.encode()

    @property
    def _has_images(self) -> bool:
        return any(axes.images for axes in self.figure.axes)

    @cached_property
    def svg(self) -> str:
        """The figure as an SVG element."""
        return as_svg(self.figure)


Block = Table | Picture


def results(title: str, lines: Iterable[Line], text: str = "") -> Table:
    """A table of accuracies: the paper's figure, ours, n, its interval and the difference."""
    lines = list(lines)
    columns = ["Defence", "Attack", "Clean", ROBUST, "n", "s/image", "Paper", "Classifier"]
    if not any(line.paper for line in lines):
        columns.remove("Paper")
    rows = [tuple(cells(line)[column] for column in columns) for line in lines]
    return Table(title, tuple(columns), rows, text)


def matrix(title: str, lines: Iterable[Line], text: str = "", *, by_ball: bool = False) -> Table:
    """A table as the paper's gray-box ones: a row for each defence, a column for each attack.

    Args:
        by_ball: a column for each norm and ε instead; whose attack it is stands with the defence,
            and what the paper states without its ε is left out.
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
        most = max(found.values(), key=lambda line: line.score.mean.n)
        shown, n = cells(first), cells(most)["n"]
        attacked = [_against(found.get(threat), most, by_ball) for threat in threats]
        name, *more = shown["Defence"]
        if first.defence == "none" and by_ball:
            name = f"no purifier, {first.classifier}"
        attack = (f"under {first.threat.partition(', ')[0]}",) if by_ball else ()
        clean = shown["Clean"]
        if first.paper_clean and first.robust:
            clean += (_beside(first.paper_clean, first.clean.mean.fraction),)
            clean += ("other schedule",) if "schedule" in first.departs else ()
        rows.append(((name, *more, *attack), n, clean, *attacked, shown["s/image"]))
    return Table(title, ("Defence", "n", "Clean", *threats, "s/image"), rows, text)


def _against(line: Line | None, most: Line, by_ball: bool) -> Cell:
    """A robust accuracy, of how many images where others have more, and the paper's."""
    if line is None:
        return ("—",)
    ours, n = cells(line)[ROBUST], line.score.mean.n
    ours += (f"of {n}",) if n < most.score.mean.n else ()
    if line.paper is None or (by_ball and line.paper.eps is None):
        return ours
    told = _beside(line.paper, line.score.mean.fraction)
    return (*ours, *filter(None, (told, departures(line))))


def _beside(stated: Figure, ours: float) -> str:
    """The paper's accuracy, and the difference."""
    # Of most weights the paper's cells are lost; Table 1 has the best of them.
    filters = ("Median", "TVBregman", "TVChambolle")
    best = stated.setting is None and stated.defence in filters
    name = "paper's best" if best else "paper"
    return f"{name} {percent(stated.accuracy)}: {100 * (ours - stated.accuracy):+.1f}"
