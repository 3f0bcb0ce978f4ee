"""Results as text and as Markdown: one table, two renderings."""

import html

from rich.box import HORIZONTALS
from rich.markup import escape
from rich.table import Table

from ridefense.results import Accuracy, AttackResult, Results, Score, WorstCase, warnings
from ridefense.results import notes as notes_on_rows

GRAY_BOX = "not a robustness claim"
"""What a row says whose attacker did not know the defence (rule 5)."""

UPPER_BOUND = "upper bound: best known attack"
"""What the accuracy under the worst of several attacks is."""

ROBUST = "Robust (upper bound)"
"""Title of the column of accuracies under one attack."""

Cell = tuple[str, ...]
"""The lines of a cell; the first is the main one."""

_NOTHING: Cell = ("—",)


def cells(attack: AttackResult) -> dict[str, Cell]:
    """An attack's cells by the titles of their columns."""
    defence = attack.defence
    engine = ", ".join(attack.engines)
    preset = defence.preset and (
        "own settings" if defence.preset == "custom" else f"preset {defence.preset}"
    )
    settings = " · ".join(filter(None, (preset, engine)))
    clean, scored = attack.clean.accuracy.n, attack.accuracy.n
    unreadable = len(defence.unreadable)
    n = [str(scored)]
    n += [f"of {defence.declared}, {unreadable} unreadable"] if unreadable else []
    n += [] if attack.is_finished else [f"of {defence.declared}, unfinished"]
    return {
        "Defence": (defence.short_title, *([settings] if settings else ())),
        "Attack": (attack.short_title, *_knowledge(attack)),
        "Clean": (*_score(attack.clean.score), *([f"of {clean}"] if clean < scored else [])),
        ROBUST: _NOTHING if attack.is_clean else _score(attack.score),
        "n": tuple(n),
        "s/image": (seconds(attack.purify_seconds),),
        "Paper": _paper(attack),
        "Images": (defence.images,),
        "Classifier": (defence.classifier,),
    }


def titles(results: Results) -> list[str]:
    """Of the columns that tell anything: images and classifier where there are several."""
    rows = [cells(attack) for attack in results.attacks]
    found = list(rows[0]) if rows else []
    for title in ("Images", "Classifier"):
        if len({row[title] for row in rows}) < 2:
            found = [name for name in found if name != title]
    if all(row["Paper"] == _NOTHING for row in rows):
        found = [name for name in found if name != "Paper"]
    return found


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}%"


def interval(accuracy: Accuracy) -> str:
    """As "[91.5, 99.4]", in per cent."""
    low, high = accuracy.interval
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def seconds(value: float) -> str:
    """With two digits that count, and none for what is too short to matter."""
    if value < 0.001:
        return "<0.001"
    return f"{value:.2g}" if value < 99.5 else f"{value:.0f}"


def _knowledge(attack: AttackResult) -> Cell:
    known = () if attack.is_clean else (f"knows {attack.knows}",)
    return (*known, GRAY_BOX) if attack.is_gray_box else known


def _score(score: Score) -> Cell:
    """The mean over draws and its interval; of several draws also their vote and the worst."""
    mean, bounds = percent(score.mean.fraction), interval(score.mean)
    if score.draws == 1:
        return mean, bounds
    votes = {"majority": score.majority, "worst": score.worst}
    told = (f"{name} {percent(accuracy.fraction)}" for name, accuracy in votes.items())
    return f"{mean} ± {100 * score.sd:.1f}", bounds, *told


def _paper(attack: AttackResult) -> Cell:
    if attack.stated is None or attack.difference is None:
        return _NOTHING
    other = departures(attack)
    shown = percent(attack.stated.accuracy)
    told = shown, f"{100 * attack.difference:+.1f}", attack.stated.table
    return (*told, other) if other else told


def departures(attack: AttackResult) -> str:
    """As "other schedule", where the paper's figure is of another; else empty."""
    told = [f"other {' and '.join(attack.departures)}"] if attack.departures else []
    told += ["its ε not stated"] if attack.stated and attack.stated.eps is None else []
    return ", ".join(told)


def notes(results: Results) -> list[str]:
    """What a reader of the table must know, in sentences, the most important first."""
    told = list(warnings(results.defences))
    attacks = results.attacks
    about = {(attack.defence.images, attack.defence.classifier) for attack in attacks}
    if len(about) == 1:
        ((images, classifier),) = about
        told.append(f"Images: {images}; classifier: {classifier}.")
    told += [
        "Robust accuracies are upper bounds, each of the attack in its row; a stronger attack can "
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
            "Paper: its accuracy, of other classifiers and images, then ours minus it in points; "
            "where the schedule or the attack is another too, that is said."
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


def as_table(results: Results) -> Table:
    """For a terminal."""
    shown = titles(results)
    table = Table(show_lines=True, box=HORIZONTALS, pad_edge=False, padding=0)  # a space apart
    for title in shown:
        right = title in ("n", "s/image")
        # What "majority 85.0%" and "schedule" take.
        width = {"Clean": 14, ROBUST: 14, "Paper": 8}.get(title)
        table.add_column(title, justify="right" if right else "left", min_width=width)
    for attack in results.attacks:
        table.add_row(*(escape("\n".join(cells(attack)[title])) for title in shown))
    return table


def as_markdown(results: Results) -> str:
    """A Markdown table, and its notes as a list."""
    shown = titles(results)
    rows = [shown, ["---"] * len(shown)]
    rows += [
        ["<br>".join(in_markdown(part) for part in cells(attack)[title]) for title in shown]
        for attack in results.attacks
    ]
    table = [f"| {' | '.join(row)} |" for row in rows]
    told = [f"- {in_markdown(note)}" for note in notes(results)]
    return "\n".join([*table, "", *told, ""])


def in_markdown(text: str) -> str:
    """Text that neither ends its cell or line nor is taken for HTML."""
    return " ".join(html.escape(text, quote=False).replace("|", "\\|").split())
