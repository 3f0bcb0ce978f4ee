"""The pages of a reproduction, from its records alone: an index, experiments, runs."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ridefense.experiments.experiment import (
    Experiment,
    ExperimentResults,
    gather,
    planned,
    run_folder,
)
from ridefense.pages import (
    Block,
    Cell,
    Column,
    Document,
    Link,
    Section,
    Table,
    Text,
    made_by,
    number,
)
from ridefense.pages import write as write_document
from ridefense.report.page import PAGE, run_page
from ridefense.results import DefenceResult, notes, warnings, words
from ridefense.results.noting import NOTES

_INDEX = "The paper, reproduced"


def write(experiment: Experiment, folder: str | os.PathLike[str]) -> ExperimentResults:
    """Write report.html, report.md and the figures into an experiment's folder.

    Returns:
        What the page was made of.

    Raises:
        InputError: where the experiment was not planned in the folder, or records are damaged.
        RideError: where the folder cannot be written to.
    """
    results = gather(experiment, folder)
    write_document(compose(experiment, results), Path(folder, experiment.name), PAGE)
    return results


def write_index(folder: str | os.PathLike[str], experiments: Iterable[Experiment]) -> None:
    """Write report.html and report.md into a folder, and an HTML page of each of its runs.

    The index has a row for each of the experiments that is planned in the folder.

    Raises:
        InputError: where records are damaged.
        RideError: where the folder cannot be written to.
    """
    found = {e: gather(e, folder) for e in experiments if planned(e, folder)}
    write_document(index(found), Path(folder), PAGE)
    runs: dict[str, DefenceResult] = {}
    links: dict[str, list[Link]] = {}
    for experiment, results in found.items():
        for name, case in results.cases.items():
            runs[name] = case
            up = links.setdefault(name, [Link(f"../../{PAGE}", _INDEX)])
            up.append(Link(f"../../{experiment.name}/{PAGE}", experiment.source))
    for name, case in runs.items():
        page = run_page(case, tuple(links[name]), attack_pages=False)
        write_document(page, run_folder(folder, name), PAGE, ("html",))


def index(found: dict[Experiment, ExperimentResults]) -> Document:
    """A row for each experiment, which leads to its page."""
    scales = {results.scale for results in found.values()}
    rows = [
        (
            experiment.source,
            Cell(experiment.title, link=Link(f"{experiment.name}/{PAGE}")),
            _images(results),
            ", ".join(results.missing) or "—",
        )
        for experiment, results in found.items()
    ]
    table = Table("", ("Where", "What", "Images", "Not run, or in part"), rows)
    return Document(
        _INDEX + ("".join(map(_scale, scales))),
        (table,),
        provenance=made_by(c.run for results in found.values() for c in results.cases.values()),
    )


def compose(experiment: Experiment, results: ExperimentResults) -> Document:
    """The page of an experiment."""
    shown = [b for b in experiment.compose(results) if not isinstance(b, Table) or b.rows]
    blocks: list[Block] = [Text((experiment.text,)), Text(tuple(_notes(results, shown)), "quiet")]
    blocks += shown
    if results.missing:
        lines = tuple(f"{case}: {reason}" for case, reason in results.missing.items())
        blocks.append(Section("Not run, or in part", (Text(lines, "list"),)))
    if told := notes(results.attacks()):
        blocks.append(Section(NOTES, (Text(tuple(told), "list"),)))
    if results.cases:
        blocks.append(_runs(results))
    return Document(
        f"{experiment.source}: {experiment.title}{_scale(results.scale)}",
        tuple(blocks),
        links=(Link(f"../{PAGE}", _INDEX),),
        provenance=made_by(case.run for case in results.cases.values()),
    )


def _scale(scale: str) -> str:
    """What a title says of a scale whose numbers mean nothing."""
    return " (scale smoke)" if scale == "smoke" else ""


def _images(results: ExperimentResults) -> str:
    """How many images each data set's cases have, at least and at most."""
    sizes: dict[str, list[int]] = {}
    for case in results.cases.values():
        sizes.setdefault(case.dataset["title"], []).append(
            len({row.image for row in case.run.rows})
        )
    spans = {title: sorted({min(n), max(n)}) for title, n in sizes.items()}
    return "; ".join(f"{title}: {' to '.join(map(str, n))}" for title, n in spans.items())


def _notes(results: ExperimentResults, blocks: list[Block]) -> list[str]:
    """What a reader of these tables must know."""
    told = []
    cells = [cell for b in blocks if isinstance(b, Table) for row in b.rows for cell in row]
    shown = [line for cell in cells for line in (cell.text, *cell.notes)]
    if results.scale == "smoke":
        told.append("Scale smoke: it shows that the machinery runs; its numbers mean nothing.")
    else:
        told += warnings(results.cases.values())
    if any("[" in line for line in shown):
        told.append(
            "Brackets: 95% Clopper-Pearson interval over n images, in per cent. Accuracies under "
            "an attack are upper bounds: a stronger one can only lower them."
        )
    beside = any(re.match(r"paper(?:'s best)? \d", line) for line in shown)
    columns = {c.title for b in blocks if isinstance(b, Table) for c in b.columns}
    if beside or "Paper" in columns:
        told.append(
            "Paper: its accuracy, with its own classifiers and images, then ours minus it in "
            "points. Where the schedule or the attack differs too, the cell says so."
        )
    return told


def _runs(results: ExperimentResults) -> Table:
    """What was run, a row for each case, which leads to the run's page."""
    rows = [
        (
            Cell(name, link=Link(f"../runs/{name}/{PAGE}", html_only=True)),
            words.schedule(case.purifier, case.preset),
            number(case.declared, None, case.images),
            case.classifier,
            number(case.run.settings["draws"]),
        )
        for name, case in results.cases.items()
    ]
    columns = (
        "Run",
        "Defence",
        Column("Images", "number"),
        "Classifier",
        Column("Draws of each final image", "number"),
    )
    return Table("What was run", columns, rows)
