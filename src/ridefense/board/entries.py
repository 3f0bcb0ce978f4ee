"""What a board lists: each defence of each audit at each audited radius."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ridefense.audit import Check, Findings, Verdict, gather, sanity, verdicts
from ridefense.audit.findings import UnfinishedError
from ridefense.errors import InputError
from ridefense.results import Accuracy, DefenceResult, WorstCase
from ridefense.results.statistics import paired_interval

PLAN = "audit.json"
"""The file that an audit's folder is known by."""

ABOUT = "about.json"
"""A file in an audit's folder by which its author tells more of the defence, see `About`."""


@dataclass(frozen=True)
class About:
    """What the author of an audit tells of the audited defence.

    Attributes:
        link: address of its paper or code.
        version: of the defence.
    """

    link: str = ""
    version: str = ""

    @classmethod
    def of(cls, folder: Path) -> "About":
        """From `about.json`, which may be missing.

        Raises:
            InputError: where it is not an object of these two texts, or the link is no address.
        """
        path = folder / ABOUT
        if not path.exists():
            return cls()
        try:
            told = json.loads(path.read_bytes())
            about = cls(**told)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(f'{path} cannot be read; write {{"link": …, "version": …}}') from error
        for name, text in vars(about).items():
            if not isinstance(text, str):
                raise InputError(f"{path} has {name} {text!r}; write a text")
        if about.link and not about.link.startswith(("https://", "http://")):
            raise InputError(f"{path} has link {about.link!r}; write an address, as https://…")
        return about


@dataclass(frozen=True)
class Entry:
    """A defence under the attacks of one norm and radius.

    Attributes:
        folder: of the audit.
        findings: the audit's, with this defence as the subject.
        verdict: what its attacks left of it.
        checks: whether they can be trusted.
        about: what its author tells.
    """

    folder: Path
    findings: Findings
    verdict: Verdict
    checks: list[Check]
    about: About

    @property
    def defence(self) -> DefenceResult:
        return self.findings.subject

    @property
    def case(self) -> WorstCase:
        return self.verdict.case

    @property
    def clean(self) -> Accuracy:
        """Without an attack."""
        return self.defence.clean.accuracy

    @property
    def robust(self) -> Accuracy:
        """The picked worst case."""
        return self.case.accuracy

    @property
    def static(self) -> WorstCase | None:
        """The same classifier without the defence; None for a classifier by itself."""
        return None if self.defence.is_undefended else self.verdict.alone

    @cached_property
    def gain(self) -> tuple[float, tuple[float, float]] | None:
        """Over the static counterpart on the same images, with its 95% interval."""
        if self.static is None:
            return None
        own, other = self.case.survival, self.static.survival
        differences = [own[image] - other[image] for image in sorted(own.keys() & other.keys())]
        if not differences:
            return None
        return sum(differences) / len(differences), paired_interval(differences)

    @property
    def planned(self) -> int:
        """Attacks of this ball that were declared, those with a known seed and noise included."""
        return sum(threat.ball == self._ball for threat in self.defence.threats.values())

    @property
    def finished(self) -> int:
        """Those of `planned` that are finished on all images."""
        return sum(attack.threat.ball == self._ball for attack in self.defence.attacks)

    @property
    def date(self) -> str:
        """The last day on which rows were added, as "2026-01-31"; empty in old records."""
        dates = [str(entry.get("date", "")) for entry in self.defence.run.provenance]
        return max(dates, default="")[:10]

    @property
    def version(self) -> str:
        """Of ridefense, when the rows were computed."""
        told = [entry.get("versions", {}) for entry in self.defence.run.provenance]
        last = told[-1] if told else self.defence.run.versions
        return str(last.get("ridefense", ""))

    @property
    def identity(self) -> str:
        """Equal for two entries exactly where the same defence met the same data set and ball."""
        settings = self.defence.run.settings
        data = settings["dataset"]
        told: list[Any] = [
            settings["purifier"],
            settings["classifier"]["weights"],
            (data["title"], data["split"]),
            self._ball,
        ]
        return json.dumps(told, sort_keys=True)

    @property
    def weight(self) -> tuple[int, int, str]:
        """By which one of several entries of the same identity is chosen: the largest counts."""
        return self.finished, self.robust.n, self.date

    @property
    def _ball(self) -> tuple[str, float]:
        return self.case.norm, self.case.eps


def read_entries(folders: Iterable[str | os.PathLike[str]]) -> list[Entry]:
    """The entries of all audits at or below some folders.

    Where audits share a defence, data set and radius, the entry with more finished attacks stays,
    then that of more images. An audit without finished clean images has no entry yet. Entries are
    ordered by data set and ball, the most robust first.

    Raises:
        InputError: where a folder holds no audit, or one is damaged.
    """
    found: dict[str, Entry] = {}
    for folder in folders:
        plans = sorted(Path(folder).rglob(PLAN))
        if not plans:
            raise InputError(f"{folder} holds no audits; pass the output folder of audit")
        for path in plans:
            for entry in _entries(path.parent):
                before = found.setdefault(entry.identity, entry)
                if entry.weight > before.weight:
                    found[entry.identity] = entry
    return sorted(found.values(), key=_rank)


def _entries(folder: Path) -> Iterator[Entry]:
    about = About.of(folder)
    try:
        findings = gather(folder)
    except UnfinishedError:
        return
    for defence in findings.defences:
        rooted = replace(findings, subject=defence)
        checks = sanity(rooted)
        own = about if defence is findings.subject else About()
        for verdict in verdicts(rooted):
            yield Entry(folder, rooted, verdict, checks, own)


def _rank(entry: Entry) -> tuple[str, str, float, float, str]:
    defence, case = entry.defence, entry.case
    return defence.images, case.norm, case.eps, -entry.robust.fraction, defence.title
