"""The records of an audit, sorted by the role of each defence, before anything is concluded."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ridefense.audit.examination import Examination
from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.evaluate import identity, migrations, read
from ridefense.results import DefenceResult
from ridefense.results.frames import Tabular
from ridefense.results.recorded import Ball


@dataclass(frozen=True)
class Findings(Tabular):
    """What an audit found so far.

    Attributes:
        subject: the defence that is audited.
        undefended: the classifier without it.
        broken: a defence that is known to be broken, if its clean images are finished.
        hardened: adversarially trained classifiers.
        beside: other defences than the audited one.
        examined: what was found before the attacks; None where nothing was looked at.
        balls: the norms and radii that are audited; others belong to the curve.
    """

    subject: DefenceResult
    undefended: DefenceResult
    broken: DefenceResult | None
    hardened: tuple[DefenceResult, ...]
    beside: tuple[DefenceResult, ...]
    balls: tuple[Ball, ...]
    examined: Examination | None = None

    @property
    def defences(self) -> tuple[DefenceResult, ...]:
        """All of them, the audited one last."""
        known = (self.undefended, *self.hardened, *self.beside)
        return (*known, *([self.broken] if self.broken else []), self.subject)

    def records(self) -> list[Plain]:
        """A flat record for each attack on each defence."""
        return [record for defence in self.defences for record in defence.records()]

    @property
    def chance(self) -> float:
        """The accuracy of the best constant guess."""
        return self.subject.chance


class UnfinishedError(InputError):
    """An audit's folder in which nothing can be concluded yet."""


def gather(folder: str | os.PathLike[str]) -> Findings:
    """The findings of an audit's folder, finished or not.

    Raises:
        UnfinishedError: where not even the clean images are finished.
        InputError: where it is no audit's folder.
    """
    folder = Path(folder)
    declared = read_plan(folder / "audit.json")
    found: dict[str, DefenceResult] = {}
    for name, planned in declared["planned"].items():
        if (folder / name / "run.json").exists():
            run = read(folder / name)
            result = DefenceResult.of(name, run, identity.labels(planned, run.attacks))
            found |= {name: result} if result.clean.is_finished else {}
    subject, undefended, broken = (
        found.get(declared[role]) for role in ("subject", "undefended", "broken")
    )
    if subject is None or undefended is None:
        raise UnfinishedError(f"{folder} has no finished clean images yet; run the audit further")
    hardened = [name for name in declared["hardened"] if name in found]
    roles = {*hardened, *(declared[role] for role in ("subject", "undefended", "broken"))}
    return Findings(
        subject=subject,
        undefended=undefended,
        broken=broken,
        hardened=tuple(found[name] for name in hardened),
        beside=tuple(
            result
            for name, result in found.items()
            if name not in roles and not same(result, subject)
        ),
        balls=tuple(
            (norm, float(eps))
            for norm, part in (("Linf", "radii"), ("L2", "l2_radii"), ("Flow", "flows"))
            for eps in declared.get(part, ())
        ),
        examined=examined(declared),
    )


def same(one: DefenceResult, other: DefenceResult) -> bool:
    """Whether two runs have the same defence before the same classifier."""
    parts = ("purifier", "classifier")
    return all(one.run.settings[part] == other.run.settings[part] for part in parts)


def examined(plan: Plain) -> Examination | None:
    """The examination that a plan keeps; None where it keeps none."""
    return Examination.of(plan["examined"]) if "examined" in plan else None


_PLAN = {
    **dict.fromkeys(("subject", "undefended", "broken"), str),
    **dict.fromkeys(("hardened", "radii"), list),
    "planned": dict,
}


def read_plan(path: Path) -> Plain:
    """What `audit.json` declares: the role of each folder, and all that is to be run.

    Raises:
        InputError: where the file cannot be read, or is not a plan.
    """
    try:
        plan: Plain = json.loads(path.read_bytes())
        if "format" not in plan:
            plan = migrations.of_audit(plan)
        if all(isinstance(plan[part], kind) for part, kind in _PLAN.items()):
            examined(plan)
            return plan
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    raise InputError(f"{path} cannot be read; pass the folder of an audit")
