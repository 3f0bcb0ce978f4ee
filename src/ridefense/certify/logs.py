"""The field's log of certificates: a line an image, tab separated.

Its columns are idx, label, predict, radius, correct and time (Cohen, Rosenfeld and Kolter 2019). An
abstention predicts -1 with radius 0. Logs of others are read, so that their curves stand beside
ours.
"""

import csv
import io
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ridefense.certify.bounds import rounded_down
from ridefense.certify.certification import CertificateRow
from ridefense.certify.smoothing import ABSTAIN
from ridefense.errors import InputError
from ridefense.results import Accuracy

COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")

_CLOCK = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")


@dataclass(frozen=True)
class LogRow:
    """One image of a log.

    Attributes:
        image: its number in the split.
        prediction: the certified class; `ABSTAIN` where there is none.
        radius: in ℓ2, [0, 1] pixels.
        seconds: what its certificate took.
    """

    image: int
    label: int
    prediction: int
    radius: float
    seconds: float


@dataclass(frozen=True)
class CertificateLog:
    """A log of certificates that was read.

    Attributes:
        name: as a page shows it.
    """

    name: str
    rows: tuple[LogRow, ...] = field(repr=False)

    def certified(self, radius: float) -> Accuracy:
        """Images that are classified right with a certified radius of at least this one.

        Args:
            radius: ℓ2, in [0, 1] pixels.
        """
        return Accuracy.of(
            row.prediction == row.label and row.radius >= radius for row in self.rows
        )


def log_text(rows: Iterable[CertificateRow]) -> str:
    """Certificates as a log. Radii are rounded down to three decimals, times are in seconds."""
    lines = ["\t".join(COLUMNS)]
    for row in rows:
        radius, right = rounded_down(row.radius, 3), int(row.prediction == row.label)
        lines.append(
            f"{row.image}\t{row.label}\t{row.prediction}\t{radius:.3f}\t{right}\t{row.seconds:.3f}"
        )
    return "\n".join(lines) + "\n"


def read_log(path: str | os.PathLike[str]) -> CertificateLog:
    """Read a log, ours or another's. Times may be seconds or H:MM:SS, as Python prints them.

    Raises:
        InputError: for a file that cannot be read, other columns, cells that are no numbers, a
            `correct` that contradicts label and prediction, an image that stands twice, and a
            log without an image.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a log of certificates: {error}") from error
    table = csv.DictReader(io.StringIO(text), delimiter="\t")
    missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
    if missing:
        raise InputError(
            f"{path} is no log of certificates: it has no column {missing[0]}; its first line has "
            f"to name {', '.join(COLUMNS)}, tab separated"
        )
    rows: dict[int, LogRow] = {}
    for cells in table:
        try:
            row = _row(cells)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}, line {table.line_num}: {error}") from error
        if row.image in rows:
            raise InputError(f"{path}, line {table.line_num}: image {row.image} stands there twice")
        rows[row.image] = row
    if not rows:
        raise InputError(f"{path} is a log without an image")
    return CertificateLog(path.name.removesuffix(".tsv"), tuple(rows.values()))


def _row(cells: dict[str, str]) -> LogRow:
    """A line's cells.

    Raises:
        TypeError, ValueError: for cells that are missing or wrong.
    """
    image, label, prediction = (int(cells[name]) for name in COLUMNS[:3])
    radius = float(cells["radius"])
    if not 0 <= radius < math.inf:
        raise ValueError(f"radius is {cells['radius']}, which is no length")
    if prediction == ABSTAIN and radius:
        raise ValueError(f"radius is {cells['radius']} of an abstention, where it has to be 0")
    if bool(int(cells["correct"])) != (prediction == label):
        raise ValueError(
            f"correct is {cells['correct']}, but the label is {label} and predict {prediction}"
        )
    return LogRow(image, label, prediction, radius, _seconds(cells["time"]))


def _seconds(text: str) -> float:
    clock = _CLOCK.fullmatch(text.strip())
    if clock is None:
        return float(text)
    days, hours, minutes, seconds = clock.groups()
    return ((int(days or 0) * 24 + int(hours)) * 60 + int(minutes)) * 60 + float(seconds)
