"""The results of all run folders at or below a folder."""

import os
from dataclasses import dataclass
from pathlib import Path

from ridefense.describe import Plain
from ridefense.evaluate import find, read
from ridefense.results import export, frames, words
from ridefense.results.attack import AttackResult
from ridefense.results.defence import DefenceResult, WorstCase


@dataclass(frozen=True)
class Results(frames.Tabular):
    """Several defences: the bare classifier first, then filters, then estimators."""

    defences: tuple[DefenceResult, ...]

    @property
    def attacks(self) -> tuple[AttackResult, ...]:
        """Of each defence what reports show, see `DefenceResult.reported`."""
        return tuple(attack for defence in self.defences for attack in defence.reported)

    @property
    def worst_cases(self) -> tuple[WorstCase, ...]:
        """Those over more than one attack."""
        cases = (case for defence in self.defences for case in defence.worst_cases)
        return tuple(case for case in cases if len(case.attacks) > 1)

    def records(self) -> list[Plain]:
        """A flat record for each of `attacks`."""
        return [attack.record for attack in self.attacks]

    def to_json(self) -> str:
        """All of it. The same records give the same bytes; there are no times and no dates."""
        return export.json_text(self.defences)


def read_results(folder: str | os.PathLike[str]) -> Results:
    """The results of all run folders at or below a folder.

    Raises:
        InputError: where there are none, or one is damaged.
    """
    folder = Path(folder)
    found = [
        DefenceResult.of(path.relative_to(folder).as_posix(), read(path)) for path in find(folder)
    ]
    return Results(tuple(sorted(found, key=_rank)))


def _rank(result: DefenceResult) -> tuple[int, str]:
    fitted = words.is_fitted(result.purifier)
    return (0 if result.is_undefended else 1 + fitted), result.name
