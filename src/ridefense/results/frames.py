"""Flat records as CSV and as a pandas frame."""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ridefense.describe import Plain
from ridefense.evaluate import Row
from ridefense.extras import package

if TYPE_CHECKING:
    from pandas import DataFrame


class Tabular(ABC):
    """A result with a table: its records as a pandas frame and as CSV."""

    @abstractmethod
    def records(self) -> list[Plain]:
        """A flat record for each line of the table, all with the same keys."""

    def to_pandas(self) -> "DataFrame":
        """A frame with a row for each of `records`.

        Raises:
            InputError: if pandas is not installed.
        """
        return frame(self.records())

    def to_csv(self) -> str:
        """A line for each of `records`, below a header; empty without records."""
        return csv_text(self.records())


def frame(records: Sequence[Plain]) -> "DataFrame":
    """A pandas frame of flat records.

    Raises:
        InputError: where pandas is not installed.
    """
    found: DataFrame = package("pandas", "pandas").DataFrame.from_records(list(records))
    return found


def csv_text(records: Sequence[Plain]) -> str:
    """Flat records as CSV with a header; empty without records."""
    text = io.StringIO()
    if records:
        writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    return text.getvalue()


def row_record(row: Row) -> Plain:
    """A row of a run as one flat record, without its history."""
    return {
        "image": row.image,
        "attack": row.attack,
        "seed": row.seed,
        "label": row.label,
        "survival": row.judged.count(row.label) / len(row.predictions),
        "predictions": " ".join(map(str, row.predictions)),
        "bare": row.bare,
        "rounded": row.rounded,
        "linf": row.linf,
        "l2": row.l2,
        "purified_clean": row.purified_clean,
        "purified_final": row.purified_final,
        "final_clean": row.final_clean,
        "faults": " ".join(row.faults),
        "refits": row.refits,
        "engine": row.engine,
        "purify_seconds": row.purify_seconds,
        "attack_seconds": row.attack_seconds,
        "peak_megabytes": row.peak_megabytes,
    }
