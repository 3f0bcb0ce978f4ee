"""A summary as text, as Markdown and as JSON: one table, three renderings."""

import html
import json
from typing import Any

from rich.box import HORIZONTALS
from rich.markup import escape
from rich.table import Table

from ridefense.evaluate import FAULTS, Accuracy, Score
from ridefense.report.summary import Line, Summary, WorstCase

GRAY_BOX = "not a robustness claim"
"""What a row says whose attacker did not know the defence (rule 5)."""

UPPER_BOUND = "upper bound: best known attack"
"""What the accuracy under the worst of several attacks is."""

ROBUST = "Robust (upper bound)"
"""Title of the column of accuracies under one attack."""

Cell = tuple[str, ...]
"""The lines of a cell; the first is the main one."""

_NOTHING: Cell = ("—",)


def cells(line: Line) -> dict[str, Cell]:
    """A line's cells by the titles of their columns."""
    engine = ", ".join(line.engines)
    preset = line.preset and (
        "own settings" if line.preset == "custom" else f"preset {line.preset}"
    )
    settings = " · ".join(filter(None, (preset, engine)))
    clean = line.clean.mean.n
    unfinished = line.expected - line.unreadable > line.score.mean.n
    n = [str(line.score.mean.n)]
    n += [f"of {line.expected}, {line.unreadable} unreadable"] if line.unreadable else []
    n += [f"of {line.expected}, unfinished"] if unfinished else []
    return {
        "Defence": (line.defence, *([settings] if settings else ())),
        "Attack": (line.threat, *_knowledge(line)),
        "Clean": (*_score(line.clean), *([f"of {clean}"] if clean < line.score.mean.n else [])),
        ROBUST: _score(line.robust),
        "n": tuple(n),
        "s/image": (seconds(line.purify_seconds),),
        "Paper": _paper(line),
        "Images": (line.images,),
        "Classifier": (line.classifier,),
    }


def titles(summary: Summary) -> list[str]:
    """Of the columns that tell anything: images and classifier where there are several."""
    rows = [cells(line) for line in summary.lines]
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


def _knowledge(line: Line) -> Cell:
    known = () if line.robust is None else (f"knows {line.knows}",)
    return (*known, GRAY_BOX) if line.gray_box else known


def _score(score: Score | None) -> Cell:
    """The mean over draws and its interval; of several draws also their vote and the worst."""
    if score is None:
        return _NOTHING
    mean, bounds = percent(score.mean.fraction), interval(score.mean)
    if score.draws == 1:
        return mean, bounds
    votes = [f"{name} {percent(a.fraction)}" for name, a in _votes(score).items()]
    return f"{mean} ± {100 * score.sd:.1f}", bounds, *votes


def _votes(score: Score) -> dict[str, Accuracy]:
    return {"majority": score.majority, "worst": score.worst}


def _paper(line: Line) -> Cell:
    if line.paper is None or line.difference is None:
        return _NOTHING
    other = departures(line)
    shown = percent(line.paper.accuracy)
    told = shown, f"{100 * line.difference:+.1f}", line.paper.table
    return (*told, other) if other else told


def departures(line: Line) -> str:
    """As "other schedule", where the paper's figure is of another; else empty."""
    told = [f"other {' and '.join(line.departs)}"] if line.departs else []
    told += ["its ε not stated"] if line.paper and line.paper.eps is None else []
    return ", ".join(told)


def notes(summary: Summary) -> list[str]:
    """What a reader of the table must know, in sentences."""
    told = []
    about = {(line.images, line.classifier) for line in summary.lines}
    if len(about) == 1:
        ((images, classifier),) = about
        told.append(f"Images: {images}; classifier: {classifier}.")
    told += [
        "Robust accuracies are upper bounds, each of the attack in its row; a stronger attack can "
        "only lower them.",
        "Brackets: 95% Clopper-Pearson interval over n images, in per cent.",
    ]
    if (draws := max((line.score.draws for line in summary.lines), default=1)) > 1:
        told.append(
            f"A randomised defence is run {draws} times on each final image: mean ± standard "
            "deviation between draws; majority: the class of most draws is right; worst: all are."
        )
    if any(line.gray_box for line in summary.lines):
        told.append(f"Where the attacker does not know the defence, the row is {GRAY_BOX}.")
    if any(line.paper for line in summary.lines):
        told.append(
            "Paper: its accuracy, of other classifiers and images, then ours minus it in points; "
            "where the schedule or the attack is another too, that is said."
        )
    told += [
        f"{line.defence}, {line.threat}: in {count} rows {FAULTS.get(fault, fault)}."
        for line in summary.lines
        for fault, count in line.faults.items()
    ]
    told += [
        f"{line.defence}, {line.threat}: {line.refits} fits collapsed and were begun anew."
        for line in summary.lines
        if line.refits
    ]
    return told + [worst_case(case) for case in summary.worst_cases]


def worst_case(case: WorstCase) -> str:
    """In a sentence."""
    accuracy = case.accuracy
    seed = ", the purifier's seed known" if case.seed_known else ""
    left = f" ({case.unfinished} more are not finished)" if case.unfinished else ""
    worth = f" ({GRAY_BOX})" if case.gray_box else ""
    return (
        f"{case.defence}, {case.ball}{seed}: {percent(accuracy.fraction)} {interval(accuracy)} of "
        f"{accuracy.n} images survive the worst of {len(case.attacks)} attacks on each"
        f"{left}{worth}."
    )


def as_table(summary: Summary) -> Table:
    """For a terminal."""
    shown = titles(summary)
    table = Table(show_lines=True, box=HORIZONTALS, pad_edge=False, padding=0)  # a space apart
    for title in shown:
        right = title in ("n", "s/image")
        # What "majority 85.0%" and "schedule" take.
        width = {"Clean": 14, ROBUST: 14, "Paper": 8}.get(title)
        table.add_column(title, justify="right" if right else "left", min_width=width)
    for line in summary.lines:
        table.add_row(*(escape("\n".join(cells(line)[title])) for title in shown))
    return table


def as_markdown(summary: Summary) -> str:
    """A Markdown table, and its notes as a list."""
    shown = titles(summary)
    rows = [shown, ["---"] * len(shown)]
    rows += [
        ["<br>".join(in_markdown(part) for part in cells(line)[title]) for title in shown]
        for line in summary.lines
    ]
    table = [f"| {' | '.join(row)} |" for row in rows]
    told = [f"- {in_markdown(note)}" for note in notes(summary)]
    return "\n".join([*table, "", *told, ""])


def in_markdown(text: str) -> str:
    """Text that neither ends its cell or line nor is taken for HTML."""
    return " ".join(html.escape(text, quote=False).replace("|", "\\|").split())


def as_json(summary: Summary) -> str:
    """Deterministic: the same records give the same bytes; no times and no dates."""
    runs = [
        {
            "run": name,
            "settings": run.settings,
            "versions": run.versions,
            "attacks": run.attacks,
            "results": [_plain(line) for line in summary.lines if line.run == name],
            "worst_cases": [
                {
                    "attacks": list(case.attacks),
                    "unfinished": case.unfinished,
                    "ball": case.ball,
                    "purifier_seed_known": case.seed_known,
                    "robustness_claim": not case.gray_box,
                    **_share(case.accuracy),
                }
                for case in summary.worst_cases
                if case.run == name
            ],
        }
        for name, run in summary.runs
    ]
    return json.dumps({"runs": runs}, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _plain(line: Line) -> dict[str, Any]:
    paper = line.paper and {
        "table": line.paper.table,
        "accuracy": line.paper.accuracy,
        "difference": line.difference,
        "departs": list(line.departs),
    }
    return {
        "defence": line.defence,
        "preset": line.preset,
        "engines": list(line.engines),
        "attack": line.attack,
        "threat": line.threat,
        "attacker_knows": line.knows,
        "robustness_claim": line.robust is not None and not line.gray_box,
        "images": line.score.mean.n,
        "images_declared": line.expected,
        "images_unreadable": line.unreadable,
        "clean": _scored(line.clean),
        "robust": line.robust and _scored(line.robust),
        "bare_classifier": _share(line.bare),
        "rounded_to_8_bits": line.rounded and _share(line.rounded),
        "mean_absolute_distances": line.distances,
        "faults": line.faults,
        "refits": line.refits,
        "paper": paper,
    }


def _share(accuracy: Accuracy) -> dict[str, Any]:
    return {
        "accuracy": accuracy.fraction,
        "n": accuracy.n,
        "interval_95": list(accuracy.interval),
    }


def _scored(score: Score) -> dict[str, Any]:
    return {
        **_share(score.mean),
        "draws": score.draws,
        "sd": score.sd,
        **{name: _share(accuracy) for name, accuracy in _votes(score).items()},
    }
