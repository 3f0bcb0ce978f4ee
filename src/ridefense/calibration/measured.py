"""What an audit reports of a sample, beside the truth and what single attacks report."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ridefense.audit.examination import Examination
from ridefense.calibration.running import (
    EXAMINED,
    OTHERS,
    PLAN,
    TRUTH,
    read_result,
    survivors,
)
from ridefense.calibration.suite import Sample, sample
from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.results import Accuracy, AttackResult, DefenceResult, WorstCase

ALONE = ("BPDA", "PGD", "AutoAttack")
"""The single attacks that an audit is compared with."""

_TYPES = {"PGD": "BPDA", "TextbookPGD": "PGD", "BatchedAutoAttack": "AutoAttack"}


@dataclass(frozen=True)
class Measured:
    """A sample whose audit has begun.

    Attributes:
        sample: what was audited.
        eps: ℓ∞ radius.
        truth: the classifier that it hides, under AutoAttack and long attacks; of a sound
            classifier under AutoAttack alone.
        audit: the sample under the audit's attacks.
        others: the sample under single attacks, with the folders that hold them.
        examination: what the audit found before its first attack.
    """

    sample: Sample
    eps: float
    truth: DefenceResult
    audit: DefenceResult
    others: tuple[DefenceResult, ...]
    examination: Examination = field(default=Examination())

    @cached_property
    def case(self) -> WorstCase | None:
        """The worst case of the audit; None where no attack is finished."""
        return self.audit.worst_case("Linf", self.eps)

    @cached_property
    def true_survivors(self) -> set[int]:
        """The images that survive in truth."""
        if not self.sample.is_sound:
            return survivors(self.truth, self.eps)
        attacks = self.truth.at("Linf", self.eps)
        found = [a for a in attacks if _TYPES.get(a.threat.type) == "AutoAttack"]
        return {i for attack in found for i, share in attack.survival.items() if share > 0}

    @property
    def truth_known(self) -> bool:
        """Whether AutoAttack is finished on the classifier without a defence."""
        attacks = self.truth.at("Linf", self.eps)
        return any(_TYPES.get(attack.threat.type) == "AutoAttack" for attack in attacks)

    @property
    def true(self) -> Accuracy:
        """The accuracy that the sample has in truth, or the best upper bound of it."""
        images = self.truth.clean.survival
        return Accuracy.of(image in self.true_survivors for image in images)

    @property
    def reported(self) -> Accuracy:
        """What the audit reports: survivors of the picked worst case."""
        return self.case.accuracy if self.case else self.audit.clean.accuracy

    @cached_property
    def beyond(self) -> int:
        """Images that survive the audit in most draws and do not survive in truth."""
        survival = self.case.survival if self.case else self.audit.clean.survival
        return sum(share > 0.5 and i not in self.true_survivors for i, share in survival.items())

    @cached_property
    def below(self) -> int:
        """Images that survive in truth and are broken by the audit in most draws."""
        survival = self.case.survival if self.case else self.audit.clean.survival
        return sum(share < 0.5 and i in self.true_survivors for i, share in survival.items())

    @property
    def invalid(self) -> int:
        """Adversarial images that are none: outside of the ball or of the range of pixels."""
        attacks = self.case.attacks if self.case else ()
        rows = {
            (row.attack, row.image)
            for attack in attacks
            for rows in attack.rows.values()
            for row in rows
            if {"eps", "range"} & {*row.faults} or row.linf > self.eps * (1 + 1e-5) + 1e-6
        }
        return len(rows)

    @property
    def misread(self) -> bool:
        """Whether the audit reports a clean accuracy that the sample does not have."""
        return self.audit.clean.accuracy.interval[1] < self.truth.clean.accuracy.fraction

    @property
    def holds(self) -> bool:
        """Whether the audit reports the truth, for clean images too.

        Of a mirage: the truth lies within the interval of what is reported, or above. Of a sound
        sample: no more than one image in 200 survives beyond AutoAttack, or one, and no
        adversarial image is invalid.
        """
        if self.misread:
            return False
        if self.sample.is_sound:
            return self.beyond <= max(1, self.true.n // 200) and not self.invalid
        return self.reported.interval[0] <= self.true.fraction

    @property
    def found_by(self) -> AttackResult | None:
        """The cheapest of the strongest attacks."""
        return self.case.strongest if self.case else None

    def alone(self, name: str) -> AttackResult | None:
        """What one of `ALONE` left; None where it is not finished, or could not be run."""
        for result in self.others:
            for attack in result.attacks:
                if _TYPES.get(attack.threat.type) == name:
                    return attack
        return None

    def failed(self, name: str) -> bool:
        """Whether one of `ALONE` ended in an error on every image."""
        return any(
            _TYPES.get(result.attack(label).threat.type) == name
            for result in self.others
            for label in result.errors
            if not result.attack(label).rows
        )

    @property
    def indicators(self) -> tuple[str, ...]:
        """The indicators of failure that any of the audit's attacks showed on its survivors."""
        attacks = self.case.attacks if self.case else ()
        return tuple(dict.fromkeys(name for attack in attacks for name in attack.failures))


def measured(folder: str | os.PathLike[str]) -> tuple[Plain, tuple[Measured, ...]]:
    """What `calibration.json` declares, and the samples whose audit has begun.

    Raises:
        InputError: where it is no folder of a calibration.
    """
    folder = Path(folder)
    try:
        plan: Plain = json.loads((folder / PLAN).read_bytes())
        names = [str(name) for name in plan["samples"]]
        eps = float(plan["eps"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{folder / PLAN} cannot be read; pass the folder of a calibration") from (
            error
        )
    return plan, tuple(_measured(folder, names, eps))


def _measured(folder: Path, names: list[str], eps: float) -> Iterator[Measured]:
    for name in names:
        one = sample(name)
        if not (folder / name / "run.json").exists():
            continue
        where = (Path(OTHERS) / name, Path(f"{OTHERS}-autoattack") / name)
        yield Measured(
            one,
            eps,
            read_result(folder / TRUTH, one.truth),
            read_result(folder, name),
            tuple(
                read_result(folder / path.parent, path.name)
                for path in where
                if (folder / path / "run.json").exists()
            ),
            Examination.of(json.loads((folder / EXAMINED / f"{name}.json").read_bytes())),
        )
