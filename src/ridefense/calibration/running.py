"""How samples are audited: cheapest attacks first, until no image survives beyond the truth."""

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ridefense import classifiers
from ridefense.attacks import APGD, PGD, dlr, margin
from ridefense.audit.answers import ROUNDS, answers
from ridefense.audit.budgets import Budget
from ridefense.audit.examination import Examination, examine
from ridefense.audit.plan import Audit
from ridefense.calibration import others
from ridefense.calibration.suite import SAMPLES, Sample
from ridefense.errors import InputError
from ridefense.evaluate import Evaluation, Here, Threat, Workers, identity, run
from ridefense.evaluate.running import Progress, titled
from ridefense.evaluate.sharing import GrayBoxImages
from ridefense.files import write_atomically
from ridefense.results import DefenceResult

PLAN = "calibration.json"
"""The file of a calibration's folder that says what was calibrated."""

TRUTH, OTHERS, EXAMINED = "truth", "others", "examined"
"""Folders of the bare classifiers, of what others would have reported, and of what the audit finds
before its attacks."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Samples, and how they are audited.

    Attributes:
        eps: ℓ∞ radius, in pixels of [0, 1].
        budget, budget_name: of the audit.
        images: how many, drawn from the test split of `dataset`.
        samples: see `suite.SAMPLES`.
        dataset: the images; the samples' classifiers read digits.
        autoattacked: of how many images AutoAttack alone is run on the mirages; 0 for none.
        draws, batch, image_seed: as in `Audit`.
    """

    eps: float
    budget: Budget
    budget_name: str
    images: int = 64
    samples: tuple[Sample, ...] = field(default=SAMPLES)
    dataset: str = "digits"
    autoattacked: int = 16
    draws: int = 5
    batch: int = 64
    image_seed: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1:
            raise InputError(f"eps is {self.eps:g}; use a number above 0, to 1")
        if not self.samples:
            raise InputError("no sample is chosen; name one")

    def declared(self, sample: Sample, threats: tuple[Threat, ...], images: int) -> Evaluation:
        """Some attacks on a fresh sample."""
        return Evaluation(
            dataset=self.dataset,
            classifier=sample.classifier,
            purifier=sample.purifier,
            threats=threats,
            limit=images,
            image_seed=self.image_seed,
            draws=self.draws,
            batch=self.batch,
            rounded=False,
            tolerant=True,
        )

    def audit(self, sample: Sample) -> Audit:
        """The audit of a fresh sample, at one radius and with nothing beside it."""
        return Audit(
            dataset=self.dataset,
            classifier=sample.classifier,
            name=sample.name,
            purifier=sample.purifier,
            radii=(self.eps,),
            budget=self.budget,
            curve=(),
            limit=self.images,
            image_seed=self.image_seed,
            draws=self.draws,
            batch=self.batch,
        )

    def true(self, classifier: str) -> Evaluation:
        """AutoAttack, and long attacks beside it, on a classifier without a defence."""
        apgd = APGD(eps=self.eps, loss=margin, restarts=2)
        attacks = (
            others.BatchedAutoAttack(eps=self.eps),
            PGD(eps=self.eps, steps=100, step_size=self.eps / 10),
            apgd,
            replace(apgd, loss=dlr, targets=9, restarts=1),
        )
        sample = Sample(classifier, "sound", "", classifier=classifier, truth=classifier)
        threats = tuple(Threat(attack=attack) for attack in attacks)
        return self.declared(sample, threats, self.images)


def carry_out(
    calibration: Calibration,
    folder: str | os.PathLike[str],
    progress: Progress | None = None,
    workers: Workers = Here(),  # noqa: B008 (it is frozen)
) -> None:
    """Run a calibration, or go on where it was interrupted.

    First the classifiers without a defence, then every sample under BPDA and PGD alone and under
    the audit, then AutoAttack alone.

    Args:
        workers: where they are computed, which changes no number.

    Raises:
        InputError: for a folder of another calibration.
        RideError: where the folder cannot be written to.
    """
    folder = Path(folder)
    _agree(folder / PLAN, calibration)
    shared = GrayBoxImages()  # attacks on one classifier alone find the same for all samples
    for classifier in dict.fromkeys(sample.truth for sample in calibration.samples):
        _truth(calibration, classifier, folder / TRUTH, progress, workers)
    for sample in calibration.samples:
        _alone(calibration, sample, folder, progress, workers, shared)
        _audit(calibration, sample, folder, progress, workers, shared)
    if calibration.autoattacked:
        for sample in calibration.samples:
            if not sample.is_sound:
                _autoattacked(calibration, sample, folder, progress, workers, shared)


def _truth(
    calibration: Calibration,
    classifier: str,
    folder: Path,
    progress: Progress | None,
    workers: Workers,
) -> None:
    """What survives on a classifier without a defence; attacks end where nothing does."""
    evaluation = calibration.true(classifier)
    for threat in evaluation.threats:
        part = replace(evaluation, threats=(threat,))
        run(part, folder / classifier, titled(progress, classifier), workers)
        if not survivors(read_result(folder, classifier), calibration.eps):
            return


def _alone(
    calibration: Calibration,
    sample: Sample,
    folder: Path,
    progress: Progress | None,
    workers: Workers,
    shared: GrayBoxImages,
) -> None:
    """What the paper's BPDA and PGD would have reported by themselves."""
    threats = others.bpda(calibration.eps), others.pgd(calibration.eps)
    for threat in threats:  # one by one, since a sample may have a memory
        evaluation = calibration.declared(sample, (threat,), calibration.images)
        run(
            evaluation,
            folder / OTHERS / sample.name,
            titled(progress, sample.name),
            workers,
            shared,
        )


def _autoattacked(
    calibration: Calibration,
    sample: Sample,
    folder: Path,
    progress: Progress | None,
    workers: Workers,
    shared: GrayBoxImages,
) -> None:
    threat = others.autoattack(calibration.eps, sample.purifier)
    evaluation = calibration.declared(sample, (threat,), calibration.autoattacked)
    where = folder / f"{OTHERS}-autoattack" / sample.name
    run(evaluation, where, titled(progress, sample.name), workers, shared)


def _audit(
    calibration: Calibration,
    sample: Sample,
    folder: Path,
    progress: Progress | None,
    workers: Workers,
    shared: GrayBoxImages,
) -> None:
    """The audit of a sample: its attacks, then what answers their indicators.

    It ends where no image survives that does not survive in truth. More attacks could only find
    that the truth was lower.
    """
    truth = survivors(read_result(folder / TRUTH, sample.truth), calibration.eps)
    own, told = folder / sample.name, titled(progress, sample.name)
    audit = calibration.audit(sample)
    examination = _examined(audit, folder / EXAMINED / f"{sample.name}.json")
    evaluation = dict(audit.evaluations(None, examination))[sample.name]
    for part in _parts(evaluation):
        run(part, own, told, workers, shared)
        if not sample.is_sound and _is_found_out(folder, sample, truth, calibration.eps):
            return
    for _ in range(ROUNDS):
        result = read_result(folder, sample.name)
        found = answers(result, evaluation, ("Linf", calibration.eps), calibration.budget)
        evaluation = replace(evaluation, threats=found)
        for part in _parts(evaluation):
            run(part, own, told, workers, shared)
            if not sample.is_sound and _is_found_out(folder, sample, truth, calibration.eps):
                return


def _examined(audit: Audit, path: Path) -> Examination:
    """What the audit finds before its first attack; an interrupted audit goes by that."""
    if not path.exists():
        images, classifier = audit.undefended.load()
        found = examine(audit.purifier, classifier, classifiers.readable(images, 4))
        write_atomically(path, json.dumps(found.recorded(), indent=1).encode())
    return Examination.of(json.loads(path.read_bytes()))


def _parts(evaluation: Evaluation) -> Iterator[Evaluation]:
    """The evaluation in parts whose threats cost the same, cheapest first."""

    def cost_of(threat: Threat) -> tuple[int, int]:
        cost = threat.attack.cost(evaluation.purifier, threat.gradient)
        return cost.purifications, cost.forwards + cost.backwards

    for _, group in itertools.groupby(sorted(evaluation.threats, key=cost_of), cost_of):
        yield replace(evaluation, threats=tuple(group))


def _is_found_out(folder: Path, sample: Sample, truth: set[int], eps: float) -> bool:
    return survivors(read_result(folder, sample.name), eps) <= truth


def survivors(result: DefenceResult, eps: float) -> set[int]:
    """The images that survive all attacks of a radius in some draw."""
    case = result.worst_case("Linf", eps)
    if case is None:
        return {image for image, share in result.clean.survival.items() if share > 0}
    return {image for image, share in case.survival.items() if share > 0}


def read_result(folder: Path, name: str) -> DefenceResult:
    """The records of a sample, a bare classifier, or an attack alone."""
    from ridefense.evaluate import read

    return DefenceResult.of(name, read(folder / name))


def _agree(path: Path, calibration: Calibration) -> None:
    """Write what is calibrated; refuse a folder of another calibration. Samples may be added."""
    declared = {
        "format": identity.SCHEMA,
        "eps": calibration.eps,
        "budget": calibration.budget_name,
        "images": calibration.images,
        "dataset": calibration.dataset,
    }
    names = [sample.name for sample in calibration.samples]
    if path.exists():
        old = json.loads(path.read_bytes())
        for name, value in declared.items():
            if old.get(name) != value:
                raise InputError(
                    f"{path} has {name} {old.get(name)!r}, not {value!r}; choose another folder"
                )
        names = [s.name for s in SAMPLES if s.name in {*old["samples"], *names}]
    write_atomically(path, json.dumps(declared | {"samples": names}, indent=1).encode())
