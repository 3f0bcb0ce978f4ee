"""Tables as the paper has them: accuracies of attacks, and defences against attacks."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from ridefense.pages import NOTHING, Cell, Column, Table, percent
from ridefense.report.tables import ROBUST, cells, departures, table
from ridefense.results import AttackResult, Stated


def accuracies(
    title: str, attacks: Iterable[AttackResult], text: str = "", *, beside_paper: bool = True
) -> Table:
    """A row for each attack: accuracy, n, its interval, and the paper's with the difference."""
    left_out = ("Images",) if beside_paper else ("Images", "Paper")
    return table(attacks, title, text, leave_out=left_out)


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

    def paper(attack: AttackResult) -> tuple[str, ...]:
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
        defence, clean = shown["Defence"], shown["Clean"]
        if by_ball:
            under = f"under {'no attack' if first.is_clean else first.name}"
            defence = replace(_with(defence, under), text=first.defence.title)
        if beside_paper and first.clean.stated and not first.is_clean:
            clean = _with(clean, _beside(first.clean.stated, first.clean.accuracy.fraction))
            clean = _with(clean, *(("other schedule",) if "schedule" in first.departures else ()))
        rows.append((defence, n, clean, *attacked, shown["s/image"]))
    columns = (
        Column("Defence"),
        Column("n", "number"),
        Column("Clean", "interval"),
        *(Column(title, "interval") for title in titles),
        Column("s/image", "number"),
    )
    return Table(title, columns, rows, text)


def _robust(
    attack: AttackResult | None,
    most: AttackResult,
    paper: Callable[[AttackResult], tuple[str, ...]],
) -> Cell:
    """An accuracy, of how many images where others have more, and the paper's."""
    if attack is None:
        return NOTHING
    n = attack.accuracy.n
    told = (f"of {n}",) if n < most.accuracy.n else ()
    return _with(cells(attack)[ROBUST], *told, *paper(attack))


def _with(cell: Cell, *notes: str) -> Cell:
    return replace(cell, notes=(*cell.notes, *notes))


def _beside(stated: Stated, ours: float) -> str:
    """The paper's accuracy, and the difference."""
    # Of most weights the paper's cells are lost; Table 1 has the best of them.
    filters = ("Median", "TVBregman", "TVChambolle")
    best = stated.setting is None and stated.defence in filters
    name = "paper's best" if best else "paper"
    return f"{name} {percent(stated.accuracy)}: {100 * (ours - stated.accuracy):+.1f}"
