"""What the records of an audit say, before anybody judges it."""

import json
import math
import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Any

from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.evaluate import (
    CLEAN,
    Accuracy,
    Row,
    RunFolder,
    Score,
    read,
    score,
    sign_flip_test,
    statistics,
)
from ridefense.report import words
from ridefense.report.summary import checked, complete_rows


@dataclass(frozen=True)
class Attacked:
    """One attack of one run that is finished on all images.

    Attributes:
        label, settings: as `run.json` has them.
        rows: by image, one for each seed.
    """

    label: str
    settings: Plain
    rows: dict[int, list[Row]]

    @property
    def eps(self) -> float:
        return float(self.settings["eps"])

    @property
    def details(self) -> Plain:
        """The attack's own settings."""
        return self.settings["attack"]

    @property
    def kind(self) -> str:
        """The attack's class by its name in the settings, "Transfer" where it holds another."""
        name = self.details["attack"]
        return name.partition("(")[0] if isinstance(name, str) else "Transfer"

    @property
    def inner(self) -> Plain:
        """The settings of the attack that a transfer makes elsewhere; else its own."""
        return self.details["attack"] if self.kind == "Transfer" else self.details

    @property
    def is_noise(self) -> bool:
        return self.kind == "UniformNoise"

    @property
    def knows_seed(self) -> bool:
        return "seed" in self.settings["knows"]

    @property
    def is_white(self) -> bool:
        """Whether it differentiates what it attacks, or a quicker likeness of it."""
        known = self.settings["knows"] != "classifier"
        return known and not self.kind.startswith(words.QUERIES)

    @cached_property
    def right(self) -> dict[int, list[bool]]:
        """Of each image, which draws were classified right."""
        return {
            image: [p == row.label for row in rows for p in row.predictions]
            for image, rows in self.rows.items()
        }

    @cached_property
    def survival(self) -> dict[int, float]:
        """Of each image, the share of draws that were right."""
        return {image: sum(draws) / len(draws) for image, draws in self.right.items()}

    @property
    def score(self) -> Score:
        rows = self.rows.values()
        predictions = [[p for row in group for p in row.predictions] for group in rows]
        return score(predictions, [group[0].label for group in rows])

    @property
    def rounded(self) -> Accuracy:
        """On the final images rounded to 8 bits, one draw."""
        return Accuracy.of(
            fmean(row.rounded == row.label for row in group) for group in self.rows.values()
        )

    @cached_property
    def elected(self) -> dict[int, bool]:
        """Of each image, whether most draws, more than for any other class, are right."""
        return {
            image: statistics.elects([p for row in rows for p in row.predictions], rows[0].label)
            for image, rows in self.rows.items()
        }

    @property
    def seconds(self) -> float:
        """Median wall time of the attack on an image."""
        return median(row.attack_seconds for g in self.rows.values() for row in g)

    @property
    def title(self) -> str:
        """As "BPDA, 100 steps, EOT 5"."""
        if self.is_noise:
            return "uniform noise, no attack"
        own, gradient = self.inner, self.settings["gradient"] or {}
        name = str(self.settings["name"]).removesuffix(" Identity")
        source = self.details["source"].get("purifier", {}) if self.kind == "Transfer" else {}
        if "HeldWeights" in name or words.is_fitted(source):
            name = name.removesuffix(" FrozenWeights")
        name = name.replace("HeldWeights", "PGD through held networks")
        if words.is_fitted(source):
            name += f" of {source['steps'] * source['rounds']} fitting steps"
        parts = [name]
        if "steps" in own and self.kind != "FGSM":
            parts.append(f"{own['steps']} steps")
        if "queries" in own:
            parts.append(f"{own['queries']} queries")
        if own.get("eot", 1) > 1:
            parts.append(f"EOT {own['eot']}")
        if "directions" in own:
            parts.append(f"{own['directions']} directions")
        if own.get("loss") not in (None, "cross_entropy"):
            parts.append(str(own["loss"]))
        if own.get("targets"):
            parts.append(f"{own['targets']} targets")
        usual = self.kind == "FGSM" or math.isclose(5 * own.get("step_size", 0), own["eps"])
        if "step_size" in own and not usual:
            parts.append(f"step ε/{own['eps'] / own['step_size']:g}")
        if own.get("random_start") and own["attack"] != "APGD":
            parts.append("random start")
        if own.get("restarts", 1) > 1:
            parts.append(f"{own['restarts']} restarts")
        if self.kind == "FGSM" and gradient:
            parts[0] = "one step of BPDA"
        if self.knows_seed:
            parts.append("seed known")
        return ", ".join(parts)


@dataclass(frozen=True)
class Comparison:
    """Two attacks on the same images: how often the first left an image worse off, and better.

    Attributes:
        wins, losses, ties: images that the first left worse off, better, as well.
        p: the chance that the first does so badly, or worse, if both are as strong.
        gain: the chance that it does so well, or better.
    """

    wins: int
    losses: int
    ties: int
    p: float
    gain: float


def compare(first: dict[int, float], second: dict[int, float]) -> Comparison:
    """Survival under one attack against that under another, on the images that both have."""
    more = [first[i] - second[i] for i in sorted(first.keys() & second.keys())]
    return Comparison(
        wins=sum(d < 0 for d in more),
        losses=sum(d > 0 for d in more),
        ties=sum(d == 0 for d in more),
        p=sign_flip_test(more),
        gain=sign_flip_test(-d for d in more),
    )


def worst(attacks: list[Attacked]) -> dict[int, float]:
    """See `statistics.worst`."""
    return statistics.worst([attack.right for attack in attacks])


def picked(attacks: list[Attacked]) -> dict[int, float]:
    """See `statistics.picked`."""
    return statistics.picked([attack.right for attack in attacks])


def majority(attacks: list[Attacked]) -> dict[int, float]:
    """Of each image, 1 where the vote of its draws is right under every attack, else 0."""
    return {image: float(all(a.elected[image] for a in attacks)) for image in worst(attacks)}


def accuracy(survival: dict[int, float]) -> Accuracy:
    return Accuracy.of(survival.values())


@dataclass(frozen=True)
class Case:
    """One run: a defence and what was done to it.

    Attributes:
        name: of its folder.
        run: its records.
        clean: its clean images, as an attack of ε 0.
        attacks: those finished on all images.
        unfinished: those that were planned and are not.
    """

    name: str
    run: RunFolder
    clean: Attacked
    attacks: tuple[Attacked, ...]
    unfinished: tuple[Attacked, ...]

    @property
    def defence(self) -> str:
        name = words.defence(self.run.settings["purifier"])
        if name != "none":
            return name
        return f"no purifier, {self.run.settings['classifier']['name']}"

    @property
    def radii(self) -> list[float]:
        return sorted({a.eps for a in self.attacks})

    @property
    def seconds(self) -> float:
        """Median wall time of one purification of an image."""
        rows = [row.purify_seconds for group in self.clean.rows.values() for row in group]
        return median(rows)

    def at(self, eps: float, *, seed_known: bool = False) -> list[Attacked]:
        """The attacks of one radius, without noise."""
        found = [a for a in self.attacks if a.eps == eps and not a.is_noise]
        return [a for a in found if a.knows_seed == seed_known]

    def noise(self, eps: float) -> Attacked | None:
        return next((a for a in self.attacks if a.eps == eps and a.is_noise), None)


@dataclass(frozen=True)
class Findings:
    """An audit's records: `subject` is audited, the others stand beside it."""

    subject: Case
    undefended: Case
    broken: Case | None
    hardened: tuple[Case, ...]
    beside: tuple[Case, ...]
    radii: tuple[float, ...]

    @property
    def cases(self) -> tuple[Case, ...]:
        known = (self.undefended, *self.hardened, *self.beside)
        return (*known, *([self.broken] if self.broken else []), self.subject)

    @property
    def chance(self) -> float:
        """The accuracy of the best guess: every image taken for the class that most have."""
        labels = {row.image: row.label for row in self.subject.run.rows}
        most = max(Counter(labels.values()).values(), default=0) / max(1, len(labels))
        return max(most, 1 / max(1, len(self.subject.run.settings["dataset"]["classes"])))


def gather(folder: str | os.PathLike[str]) -> Findings:
    """The findings of an audit's folder, finished or not.

    Raises:
        InputError: where it is none, or where not even the clean images are finished.
    """
    folder = Path(folder)
    declared = read_plan(folder / "audit.json")
    cases = {}
    for name, planned in declared["planned"].items():
        if (folder / name / "run.json").exists():
            case = _case(name, checked(read(folder / name)), planned)
            cases |= {name: case} if case else {}
    named = {role: cases.get(declared[role]) for role in ("subject", "undefended", "broken")}
    if named["subject"] is None or named["undefended"] is None:
        raise InputError(f"{folder} has no finished clean images yet; run the audit further")
    roles = {declared[role] for role in ("subject", "undefended", "broken")}
    hardened = [name for name in declared["hardened"] if name in cases]
    return Findings(
        **named,
        hardened=tuple(cases[name] for name in hardened),
        beside=tuple(case for name, case in cases.items() if name not in roles | {*hardened}),
        radii=tuple(declared["radii"]),
    )


_PLAN = {
    **dict.fromkeys(("subject", "undefended", "broken"), str),
    **dict.fromkeys(("hardened", "radii"), list),
    "planned": dict,
}


def read_plan(path: Path) -> dict[str, Any]:
    """What `audit.json` says: which folder is what, and all that is to be run.

    Raises:
        InputError: where it cannot be read, or is none.
    """
    try:
        plan = json.loads(path.read_bytes())
        if all(isinstance(plan[part], kind) for part, kind in _PLAN.items()):
            return plan
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise InputError(f"{path} cannot be read; pass what was given to audit as --out")


def _case(name: str, run: RunFolder, planned: dict[str, Plain]) -> Case | None:
    declared = planned | run.attacks
    attacks = [Attacked(label, s, complete_rows(run, label)) for label, s in declared.items()]
    clean = Attacked(CLEAN, {"eps": 0.0}, complete_rows(run, CLEAN))
    expected = run.settings["dataset"]["images"] - len(run.unreadable)
    if len(clean.rows) < expected:
        return None
    return Case(
        name,
        run,
        clean,
        tuple(a for a in attacks if len(a.rows) >= expected),
        tuple(a for a in attacks if len(a.rows) < expected),
    )
