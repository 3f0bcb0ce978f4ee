"""The board as a page."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ridefense.audit.page import PAGE as AUDIT
from ridefense.board.entries import Entry, read_entries
from ridefense.pages import (
    NOTHING,
    Cell,
    Column,
    Document,
    Figure,
    Link,
    Section,
    Table,
    Text,
    difference,
    made_by,
    number,
    seconds,
    share,
)
from ridefense.pages import write as write_document
from ridefense.pages.cells import Tone
from ridefense.pages.drawing import Point, curves
from ridefense.report.tables import UPPER_BOUND

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PAGE = "board"
"""Name of the board's page, without a suffix."""

COLUMNS = (
    Column("Defence"),
    Column("Data"),
    Column("Ball"),
    Column("n", "number"),
    Column("Clean", "interval"),
    Column("Worst case", "interval"),
    Column("Undefended", "interval"),
    Column("Gain", "difference"),
    Column("Verdict"),
    Column("Checks"),
    Column("Attacks", "number"),
    Column("s/image", "number"),
    Column("Classifier"),
    Column("Version"),
)

_SHORT = 12  # digits of a hash that a page shows


def write(folders: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str]) -> list[Entry]:
    """Write board.html, .md, .json and the table as CSV, and return the entries.

    Raises:
        InputError: as `read_entries`.
        RideError: where `out` cannot be written to.
    """
    entries = read_entries(folders)
    write_document(compose(entries, out), out, PAGE, ("html", "md", "json", "csv"))
    return entries


def summary(entries: Sequence[Entry]) -> Document:
    """The main columns, a table for each data set."""
    left_out = {"Data", "Undefended", "s/image", "Version"}
    places = [n for n, column in enumerate(COLUMNS) if column.title not in left_out]
    columns = [COLUMNS[place] for place in places]
    tables = [
        Table(images, columns, [[_row(entry)[place] for place in places] for entry in group])
        for images, group in groupby(entries, key=lambda entry: entry.defence.images)
    ]
    return Document("", (*tables, Text((_TEXT,))))


def compose(entries: Sequence[Entry], out: str | os.PathLike[str] = ".") -> Document:
    """The board of some entries.

    Args:
        out: the folder that the page is written to; links to the audits' pages start there.
    """
    runs = {id(entry.defence.run): entry.defence.run for entry in entries}
    return Document(
        "Board of audited defences",
        (
            Table("All entries", COLUMNS, [_row(entry, out) for entry in entries], _TEXT),
            *_by_data(entries),
            Section("How to read it", (Text(_NOTES, "list"),)),
        ),
        provenance=made_by(runs.values()),
    )


_TEXT = (
    "Worst case: images that survive every attack of the ball, each image under the attack that is "
    f"worst for it; an {UPPER_BOUND}. Gain: the worst case minus that of the same classifier "
    "without the defence, on the same images, in points."
)

_NOTES = (
    "Brackets: 95% intervals, in per cent: Clopper-Pearson over n images, and of a gain Tango's "
    "score interval of paired differences.",
    "Worst case of a randomised defence: all draws but one choose the attack, and that one scores "
    "it.",
    "Checks: passed of those that could be decided; a failed one says that stronger attacks are "
    "possible.",
    "Attacks: finished of those that were planned at this ball, with uniform noise.",
    "s/image: wall time to purify a clean image on the machine of the audit, its part of a batch.",
    "Classifier: its name and the beginning of its weights' hash. Data: likewise of which images "
    "they are.",
    "A gain whose interval holds 0 is not shown to be one. Compare entries of the same data, ball "
    "and classifier alone.",
)


def _row(entry: Entry, out: str | os.PathLike[str] = ".") -> list[Cell]:
    defence, settings = entry.defence, entry.defence.run.settings
    gain = entry.gain
    return [
        _defence(entry, out),
        Cell(defence.images, (str(settings["dataset"]["fingerprint"])[:_SHORT],)),
        Cell(entry.case.ball, value=entry.case.eps),
        number(entry.robust.n),
        share(entry.clean),
        share(entry.robust),
        share(entry.static.accuracy) if entry.static else NOTHING,
        difference(*gain) if gain else NOTHING,
        Cell(entry.verdict.conclusion if entry.static else "—"),
        _checks(entry),
        number(entry.finished, f"{entry.finished} of {entry.planned}"),
        number(defence.clean.purify_seconds, seconds(defence.clean.purify_seconds)),
        Cell(defence.classifier, (str(settings["classifier"]["weights"])[:_SHORT],)),
        Cell(entry.version or "—", (entry.date,) if entry.date else ()),
    ]


def _defence(entry: Entry, out: str | os.PathLike[str]) -> Cell:
    """Its name, and where there is more about it: at its authors', else in the audit's page."""
    defence, about = entry.defence, entry.about
    notes = []
    if defence.preset:
        notes.append("own settings" if defence.preset == "custom" else f"preset {defence.preset}")
    if about.version:
        notes.append(f"version {about.version}")
    link = None
    if about.link:
        link = Link(about.link)
    elif (entry.folder / f"{AUDIT}.html").exists():
        page = Path(os.path.relpath(entry.folder / AUDIT, out)).as_posix()
        link = Link(page, html_only=True)
    return Cell(defence.title, tuple(notes), link=link)


def _checks(entry: Entry) -> Cell:
    outcomes = [check.outcome for check in entry.checks]
    passed, failed = outcomes.count("passed"), outcomes.count("failed")
    tone: Tone = "bad" if failed else "good" if passed else ""
    names = tuple(f"failed: {c.name}" for c in entry.checks if c.outcome == "failed")
    return Cell(f"{passed} of {passed + failed}", names, tone=tone)


def _by_data(entries: Sequence[Entry]) -> Iterator[Figure]:
    """For each data set, the worst cases against ε."""
    for images, group in groupby(entries, key=lambda entry: entry.defence.images):
        lines: dict[str, dict[float, Point]] = {}
        for entry in group:
            if entry.case.norm == "Linf":
                name = _label(entry)
                lines.setdefault(name, {0.0: Point.percent(0.0, entry.clean)})
                lines[name][entry.case.eps] = Point.percent(entry.case.eps, entry.robust)
        drawn = {name: [points[x] for x in sorted(points)] for name, points in lines.items()}
        if drawn:
            yield Figure(
                f"Worst case against ε: {images}",
                partial(_draw, drawn),
                "Images that survive every attack, with 95% intervals. Dashed: classifiers without "
                "a defence.",
            )


def _draw(drawn: Mapping[str, Sequence[Point]]) -> "Drawing":
    dashed = [name for name in drawn if name.startswith("no purifier")]
    x, y = "ε, ℓ∞ in [0, 1] pixels", "accuracy, % (upper bound)"
    return curves({"": drawn}, x, y, dashed=dashed, y_range=(-3, 103))


def _label(entry: Entry) -> str:
    defence = entry.defence
    return defence.title + (f", {defence.preset}" if defence.preset else "")
