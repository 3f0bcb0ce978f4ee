"""Results as a table, and what a reader of it must know."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ridefense.pages import (
    NOTHING,
    Cell,
    Column,
    Link,
    Table,
    interval,
    number,
    percent,
    seconds,
    share,
)
from ridefense.results import AttackResult, Results, Score, WorstCase
from ridefense.results import notes as notes_on_rows

GRAY_BOX = "not a robustness claim"
"""What a row says whose attacker does not know the defence."""

UPPER_BOUND = "upper bound: best known attack"
"""What the accuracy under the worst of several attacks is."""

ROBUST = "Robust (upper bound)"
"""Title of the column of accuracies under one attack."""

COLUMNS = (
    Column("Defence"),
    Column("Attack"),
    Column("Clean", "interval"),
    Column(ROBUST, "interval"),
    Column("n", "number"),
    Column("s/image", "number"),
    Column("Paper", "number"),
    Column("Images"),
    Column("Classifier"),
)


def table(
    attacks: Iterable[AttackResult],
    title: str = "",
    text: str = "",
    *,
    leave_out: Iterable[str] = (),
    links: Mapping[str, Mapping[int, Link]] | None = None,
) -> Table:
    """A row for each attack.

    A column that tells nothing is left out: the paper's where it states nothing, images and
    classifier where all rows have the same.

    Args:
        leave_out: titles of columns that are not wanted.
        links: where cells lead, by the title of their column and the number of their row.
    """
    rows = [cells(attack) for attack in attacks]
    unwanted = {*leave_out, *(t for t in ("Images", "Classifier") if _alike(t, rows))}
    if all(row["Paper"] == NOTHING for row in rows):
        unwanted.add("Paper")
    for column, leads in (links or {}).items():
        for place, link in leads.items():
            rows[place][column] = replace(rows[place][column], link=link)
    columns = [column for column in COLUMNS if column.title not in unwanted]
    return Table(title, columns, [[row[c.title] for c in columns] for row in rows], text)


def _alike(title: str, rows: list[dict[str, Cell]]) -> bool:
    return len({row[title].text for row in rows}) < 2


def cells(attack: AttackResult) -> dict[str, Cell]:
    """An attack's cells by the titles of `COLUMNS`."""
    defence = attack.defence
    preset = defence.preset and (
        "own settings" if defence.preset == "custom" else f"preset {defence.preset}"
    )
    settings = " · ".join(filter(None, (preset, ", ".join(attack.engines))))
    clean, scored = attack.clean.accuracy.n, attack.accuracy.n
    unreadable = len(defence.unreadable)
    n = [f"of {defence.declared}, {unreadable} unreadable"] if unreadable else []
    n += [] if attack.is_finished else [f"of {defence.declared}, unfinished"]
    return {
        "Defence": Cell(defence.short_title, (settings,) if settings else ()),
        "Attack": Cell(attack.short_title, _knowledge(attack)),
        "Clean": scored_cell(attack.clean.score, *([f"of {clean}"] if clean < scored else [])),
        ROBUST: NOTHING if attack.is_clean else scored_cell(attack.score),
        "n": number(scored, None, *n),
        "s/image": number(attack.purify_seconds, seconds(attack.purify_seconds)),
        "Paper": _paper(attack),
        "Images": Cell(defence.images),
        "Classifier": Cell(defence.classifier),
    }


def scored_cell(score: Score, *notes: str) -> Cell:
    """The mean over draws and its interval; for several draws also their vote and the worst."""
    if score.draws == 1:
        return share(score.mean, *notes)
    votes = {"majority": score.majority, "worst": score.worst}
    told = (f"{name} {percent(accuracy.fraction)}" for name, accuracy in votes.items())
    return share(score.mean, *told, *notes, spread=score.sd)


def _knowledge(attack: AttackResult) -> tuple[str, ...]:
    known = () if attack.is_clean else (f"knows {attack.knows}",)
    return (*known, GRAY_BOX) if attack.is_gray_box else known


def _paper(attack: AttackResult) -> Cell:
    if attack.stated is None or attack.difference is None:
        return NOTHING
    other = departures(attack)
    told = f"{100 * attack.difference:+.1f}", attack.stated.table, *([other] if other else [])
    return number(attack.stated.accuracy, percent(attack.stated.accuracy), *told)


def departures(attack: AttackResult) -> str:
    """As "other schedule", where the paper's figure is of another; else empty."""
    told = [f"other {' and '.join(attack.departures)}"] if attack.departures else []
    told += ["its ε not stated"] if attack.stated and attack.stated.eps is None else []
    return ", ".join(told)


def notes(results: Results) -> list[str]:
    """What a reader of the table must know, in sentences."""
    told = []
    attacks = results.attacks
    about = {(attack.defence.images, attack.defence.classifier) for attack in attacks}
    if len(about) == 1:
        ((images, classifier),) = about
        told.append(f"Images: {images}; classifier: {classifier}.")
    told += [
        "Robust accuracies are upper bounds, each for the attack in its row. A stronger attack can "
        "only lower them.",
        "Brackets: 95% Clopper-Pearson interval over n images, in per cent.",
    ]
    if (draws := max((attack.score.draws for attack in attacks), default=1)) > 1:
        told.append(
            f"A randomised defence is run {draws} times on each final image: mean ± standard "
            "deviation between draws; majority: the class of most draws is right; worst: all are."
        )
    if any(attack.is_gray_box for attack in attacks):
        told.append(f"Where the attacker does not know the defence, the row is {GRAY_BOX}.")
    if any(attack.stated for attack in attacks):
        told.append(
            "Paper: its accuracy, with other classifiers and images, then ours minus it in points. "
            "Where the schedule or the attack differs too, the cell says so."
        )
    told += notes_on_rows(attacks)
    return told + [worst_case(case) for case in results.worst_cases]


def worst_case(case: WorstCase) -> str:
    """In a sentence."""
    accuracy = case.accuracy
    seed = ", the purifier's seed known" if case.seed_known else ""
    left = f" ({case.unfinished} more are not finished)" if case.unfinished else ""
    worth = f" ({GRAY_BOX})" if case.is_gray_box else ""
    return (
        f"{case.defence.short_title}, {case.ball}{seed}: {percent(accuracy.fraction)} "
        f"{interval(accuracy)} of {accuracy.n} images survive the worst of {len(case.attacks)} "
        f"attacks on each{left}{worth}."
    )
