"""What a page is made of: tables, and figures as the paper has them."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from matplotlib.figure import Figure as Drawing

from ridefense.report.drawing import as_svg, as_webp
from ridefense.report.tables import ROBUST, Cell, cells, departures, percent
from ridefense.results import AttackResult, Stated


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


def accuracies(
    title: str, attacks: Iterable[AttackResult], text: str = "", *, beside_paper: bool = True
) -> Table:
    """A row for each attack: accuracy, n, its interval, and the paper's with the difference."""
    attacks = list(attacks)
    columns = ["Defence", "Attack", "Clean", ROBUST, "n", "s/image", "Paper", "Classifier"]
    if not (beside_paper and any(attack.stated for attack in attacks)):
        columns.remove("Paper")
    rows = [tuple(cells(attack)[column] for column in columns) for attack in attacks]
    return Table(title, tuple(columns), rows, text)


def matrix(
    title: str,
    attacks: Iterable[AttackResult],
    text: str = "",
    *,
    by_ball: bool = False,
    beside_paper: bool = True,
) -> Table:
    """A table as the paper's gray-box ones: a row for each defence, a column for each attack.

    Args:
        by_ball: a column for each norm and ε instead; the attack's name stands with the defence,
            and accuracies that the paper states without ε are left out.
        beside_paper: whether the paper's accuracies are shown.
    """

    def column(attack: AttackResult) -> str:
        return attack.ball if by_ball else attack.short_title

    def paper(attack: AttackResult) -> Cell:
        if not beside_paper or attack.stated is None or (by_ball and attack.stated.eps is None):
            return ()
        told = _beside(attack.stated, attack.accuracy.fraction), departures(attack)
        return tuple(filter(None, told))

    attacks = list(attacks)
    titles = list(dict.fromkeys(map(column, attacks)))
    defences: dict[str, dict[str, AttackResult]] = {}
    for attack in attacks:
        defences.setdefault(attack.defence.name, {})[column(attack)] = attack
    rows = []
    for found in defences.values():
        first = next(iter(found.values()))
        most = max(found.values(), key=lambda attack: attack.accuracy.n)
        shown, n = cells(first), cells(most)["n"]
        attacked = [_robust(found.get(title), most, paper) for title in titles]
        name, *more = shown["Defence"]
        if by_ball:
            name = first.defence.title
            more.append(f"under {'no attack' if first.is_clean else first.name}")
        clean = shown["Clean"]
        if beside_paper and first.clean.stated and not first.is_clean:
            clean += (_beside(first.clean.stated, first.clean.accuracy.fraction),)
            clean += ("other schedule",) if "schedule" in first.departures else ()
        rows.append(((name, *more), n, clean, *attacked, shown["s/image"]))
    return Table(title, ("Defence", "n", "Clean", *titles, "s/image"), rows, text)


def _robust(
    attack: AttackResult | None, most: AttackResult, paper: Callable[[AttackResult], Cell]
) -> Cell:
    """An accuracy, of how many images where others have more, and the paper's."""
    if attack is None:
        return ("—",)
    n = attack.accuracy.n
    told = (f"of {n}",) if n < most.accuracy.n else ()
    return (*cells(attack)[ROBUST], *told, *paper(attack))


def _beside(stated: Stated, ours: float) -> str:
    """The paper's accuracy, and the difference."""
    # Of most weights the paper's cells are lost; Table 1 has the best of them.
    filters = ("Median", "TVBregman", "TVChambolle")
    best = stated.setting is None and stated.defence in filters
    name = "paper's best" if best else "paper"
    return f"{name} {percent(stated.accuracy)}: {100 * (ours - stated.accuracy):+.1f}"
