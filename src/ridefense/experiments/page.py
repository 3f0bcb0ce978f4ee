"""An experiment's page, as HTML and as Markdown, from its records alone."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from ridefense.experiments.blocks import Block, Picture, Table
from ridefense.experiments.experiment import Experiment, ExperimentResults, gather, planned
from ridefense.files import write_atomically
from ridefense.report.tables import in_markdown
from ridefense.results import notes, warnings, words

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.ChoiceLoader(
        [jinja2.PackageLoader("ridefense.experiments"), jinja2.PackageLoader("ridefense.report")]
    ),
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["text"] = in_markdown


@dataclass(frozen=True)
class Page:
    """Everything on the page, in its order."""

    source: str
    title: str
    text: str
    notes: list[str]
    blocks: list[Block]
    settings: list[str]
    missing: dict[str, str]

    @property
    def pictures(self) -> list[Picture]:
        return [block for block in self.blocks if isinstance(block, Picture)]


def write(experiment: Experiment, folder: str | os.PathLike[str]) -> Page:
    """Write report.html, report.md and the figures into an experiment's folder.

    Raises:
        InputError: where the experiment was not planned in the folder, or results are damaged.
        RideError: where it cannot be written to.
    """
    page = compose(experiment, gather(experiment, folder))
    folder = Path(folder, experiment.name)
    for picture in page.pictures:
        write_atomically(folder / picture.file_name, picture.content)
    write_atomically(folder / "report.html", as_html(page).encode())
    write_atomically(folder / "report.md", as_markdown(page).encode())
    return page


def write_index(folder: str | os.PathLike[str], experiments: Iterable[Experiment]) -> None:
    """Write report.html and report.md into a folder: a line for each experiment planned in it.

    Raises:
        InputError: where results are damaged.
        RideError: where it cannot be written to.
    """
    found = [(e, gather(e, folder)) for e in experiments if planned(e, folder)]
    entries = [
        {
            "name": experiment.name,
            "source": experiment.source,
            "title": experiment.title,
            "images": _images(results),
            "missing": ", ".join(results.missing),
        }
        for experiment, results in found
    ]
    html = _ENVIRONMENT.overlay(autoescape=True).get_template("index.html")
    markdown = _ENVIRONMENT.get_template("index.md")
    write_atomically(Path(folder, "report.html"), html.render(entries=entries).encode())
    text = markdown.render(entries=entries, text=in_markdown)
    write_atomically(Path(folder, "report.md"), text.encode())


def _images(results: ExperimentResults) -> str:
    """How many images each data set's cases have, at least and at most."""
    sizes: dict[str, list[int]] = {}
    for case in results.cases.values():
        sizes.setdefault(case.dataset["title"], []).append(
            len({row.image for row in case.run.rows})
        )
    spans = {title: sorted({min(n), max(n)}) for title, n in sizes.items()}
    return "; ".join(f"{title}: {' to '.join(map(str, n))}" for title, n in spans.items())


def compose(experiment: Experiment, results: ExperimentResults) -> Page:
    """The page of some results."""
    blocks = [b for b in experiment.compose(results) if isinstance(b, Picture) or b.rows]
    return Page(
        source=experiment.source,
        title=experiment.title,
        text=experiment.text,
        notes=_notes(results, blocks),
        blocks=blocks,
        settings=_settings(results),
        missing=results.missing,
    )


def as_html(page: Page) -> str:
    """One file that needs nothing else; what comes from results is escaped."""
    template = _ENVIRONMENT.overlay(autoescape=True).get_template("experiment.html")
    return template.render(page=page, svg=lambda picture: Markup(picture.svg))


def as_markdown(page: Page) -> str:
    """The same; the figures are files beside it."""
    return _ENVIRONMENT.get_template("experiment.md").render(page=page, text=in_markdown)


def _notes(results: ExperimentResults, blocks: list[Block]) -> list[str]:
    """What a reader of these tables must know."""
    told = []
    tables = [block for block in blocks if isinstance(block, Table)]
    shown = [part for t in tables for row in t.rows for cell in row for part in cell]
    if results.scale == "smoke":
        told.append("Scale smoke: it shows that the machinery runs; its numbers mean nothing.")
    else:
        told += warnings(results.cases.values())
    if any("[" in part for part in shown):
        told.append(
            "Brackets: 95% Clopper-Pearson interval over n images, in per cent. Accuracies under "
            "an attack are upper bounds: a stronger one can only lower them."
        )
    beside = any(re.match(r"paper(?:'s best)? \d", part) for part in shown)
    if beside or any("Paper" in t.columns for t in tables):
        told.append(
            "Paper: its accuracy, of its own classifiers and images, then ours minus it in points; "
            "where the schedule or the attack is another too, that is said."
        )
    return told + notes(results.attacks())


def _draws(count: int) -> str:
    return "one draw" if count == 1 else f"{count} draws"


def _settings(results: ExperimentResults) -> list[str]:
    """A sentence for each run, and what computed it."""
    told, versions = [], {}
    for name, case in results.cases.items():
        told.append(
            f"{name}: {words.schedule(case.purifier, case.preset)}; {case.declared} of "
            f"{case.images}; classifier {case.classifier}; "
            f"{_draws(case.run.settings['draws'])} a final image."
        )
        versions = versions or case.run.versions
    if versions:
        told.append("Versions: " + ", ".join(f"{k} {v}" for k, v in versions.items() if v) + ".")
    return told
