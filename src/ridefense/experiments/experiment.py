"""A table or figure of the paper: the evaluations that it needs, and the page of their results."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.evaluate import (
    CLEAN,
    Evaluation,
    Here,
    Row,
    Threat,
    Workers,
    identity,
    migrations,
    read,
    run,
)
from ridefense.evaluate.running import Progress, titled
from ridefense.evaluate.sharing import GrayBoxImages
from ridefense.experiments.scales import Setup
from ridefense.files import FolderLock, write_atomically
from ridefense.pages import Block
from ridefense.results import AttackResult, DefenceResult

Cases = dict[str, Evaluation]
"""Evaluations by name. In all experiments a name stands for the same evaluation, apart from its
attacks, so that experiments share records."""


@dataclass(frozen=True)
class ExperimentResults:
    """The results of an experiment so far.

    Attributes:
        scale: the scale at which it was run.
        cases: the results of the cases that were begun, by name.
        planned: the labels of each case's attacks.
        refused: why a case could not be run.
    """

    scale: str
    cases: dict[str, DefenceResult]
    planned: dict[str, list[str]]
    refused: dict[str, str]

    def attacks(
        self, names: Iterable[str] | None = None, *, clean: bool = False
    ) -> list[AttackResult]:
        """For each case the results of its planned attacks, or of clean images if it has none.

        Args:
            names: cases; by default all, in their order.
            clean: clean images in place of the attacks.
        """
        shown = [name for name in (self.planned if names is None else names) if name in self.cases]
        found = [
            self.cases[name].attack(label)
            for name in shown
            for label in ((not clean and self.labels(name)) or [CLEAN])
        ]
        return [attack for attack in found if attack.rows and attack.clean.rows]

    def labels(self, name: str) -> list[str]:
        """Of a case's planned attacks."""
        return self.planned.get(name, [])

    def rows(self, name: str, label: str = CLEAN) -> list[Row]:
        """A case's rows under an attack, of the first seed, by image; none where it did not run."""
        if name not in self.cases:
            return []
        return [rows[0] for _, rows in sorted(self.cases[name].attack(label).rows.items())]

    def label(self, name: str, threat: Threat) -> str:
        """The label of an attack in a case's run folder."""
        case = self.cases.get(name)
        return (case and case.run.label(threat.recorded)) or threat.label

    def on_images_of(self, name: str) -> "ExperimentResults":
        """The results on those images alone that each attack of a begun case has."""
        images = {
            label: self.cases[name].attack(label).rows.keys()
            for label in (CLEAN, *self.labels(name))
        }
        cases = {other: result.only(images) for other, result in self.cases.items()}
        return replace(self, cases=cases)

    @property
    def missing(self) -> dict[str, str]:
        """By case: why it could not be run, or how far it got. Complete cases are left out."""
        found = {}
        for name, labels in self.planned.items():
            if name not in self.cases:
                found[name] = self.refused.get(name, "not begun")
            elif short := _short(self.cases[name], [CLEAN, *labels]):
                found[name] = "; ".join(short)
        return found


def _short(case: DefenceResult, labels: list[str]) -> list[str]:
    """What is not finished, as "PGD, ℓ∞ 0.1: 4 of 20 images"."""
    attacks = {label: case.attack(label) for label in labels}
    return [
        f"{short_title(case, label)}: {len(attack.rows)} of {case.expected} images"
        for label, attack in attacks.items()
        if not attack.is_finished
    ]


def short_title(case: DefenceResult, label: str) -> str:
    """As "PGD, ℓ∞ 0.1", or "clean"; the label of an attack that is planned and not begun."""
    if label == CLEAN:
        return "clean"
    return case.attack(label).short_title if label in case.threats else label


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table or figure.

    Attributes:
        name: as the command line has it, "table-1".
        source: where it stands in the paper.
        title: what it shows.
        text: what is shown, and how open points of the paper were decided.
        cases: the evaluations at a scale.
        compose: the blocks of the page from the results.
    """

    name: str
    source: str
    title: str
    text: str
    cases: Callable[[Setup], Cases]
    compose: Callable[[ExperimentResults], Iterable[Block]]


def declare(experiment: Experiment, setup: Setup, folder: str | os.PathLike[str]) -> Cases:
    """Plan an experiment in a folder, and return the cases that can be run here.

    Raises:
        InputError: where the folder holds another scale's, of whatever experiment.
        RideError: where it cannot be written to.
    """
    for path in Path(folder).glob("*/plan.json"):
        if (old := _plan(path, Path(folder))["scale"]) != setup.scale:
            raise InputError(
                f"{folder} holds scale {old}, not {setup.scale}; choose another folder"
            )
    cases, refused = {}, {}
    declared = experiment.cases(setup)
    for name, evaluation in declared.items():
        try:
            evaluation.load()
            cases[name] = evaluation
        except InputError as error:
            refused[name] = str(error)
    planned = {
        name: [threat.recorded for threat in evaluation.attacks.values()]
        for name, evaluation in declared.items()
    }
    plan = {"format": identity.SCHEMA, "scale": setup.scale, "planned": planned, "refused": refused}
    path = _plan_path(experiment, folder)
    with FolderLock(path.parent, wait=True):
        write_atomically(path, json.dumps(plan, indent=1).encode())
    return cases


def carry_out(
    cases: Mapping[str, Evaluation],
    folder: str | os.PathLike[str],
    progress: Progress | None = None,
    workers: Workers = Here(),  # noqa: B008 (it is frozen)
) -> None:
    """Run cases, or resume them; cases that another experiment has run are not repeated.

    Raises:
        InputError: where a case's folder holds another declaration.
        RideError: where it cannot be written to.
    """
    shared = GrayBoxImages()
    for number, (name, evaluation) in enumerate(cases.items(), 1):
        within = titled(progress, f"{name} ({number} of {len(cases)})")
        run(evaluation, run_folder(folder, name), within, workers, shared)


def run_folder(folder: str | os.PathLike[str], case: str) -> Path:
    """Where a case's records are, for all the experiments of a folder."""
    return Path(folder, "runs", case)


def planned(experiment: Experiment, folder: str | os.PathLike[str]) -> bool:
    """Whether there is anything of an experiment in a folder."""
    return _plan_path(experiment, folder).exists()


def gather(experiment: Experiment, folder: str | os.PathLike[str]) -> ExperimentResults:
    """The results of an experiment that was planned in a folder.

    Raises:
        InputError: where it was not, or records are damaged.
    """
    plan = _plan(_plan_path(experiment, folder), Path(folder))
    cases, planned = {}, {}
    for name, threats in plan["planned"].items():
        where = run_folder(folder, name)
        begun = read(where) if (where / "run.json").exists() else None
        labels = identity.labels(threats, begun.attacks if begun else {})
        if begun:
            cases[name] = DefenceResult.of(name, begun, labels)
        planned[name] = list(labels)
    return ExperimentResults(plan["scale"], cases, planned, plan["refused"])


def _plan_path(experiment: Experiment, folder: str | os.PathLike[str]) -> Path:
    return Path(folder, experiment.name, "plan.json")


def _plan(path: Path, folder: Path) -> Plain:
    """What `declare` noted: the scale, each case's attacks, and why a case was refused."""

    def begun(case: str) -> Mapping[str, Plain]:
        path = run_folder(folder, case) / "run.json"
        return identity.read_declaration(path)["attacks"] if path.exists() else {}

    try:
        plan: Plain = json.loads(path.read_bytes())
        kinds = {"scale": str, "planned": dict, "refused": dict}
        if plan.keys() - {"format"} != kinds.keys():
            raise ValueError(f"it has {', '.join(plan)}")
        for name, kind in kinds.items():
            if not isinstance(plan[name], kind):
                raise ValueError(f"{name} is {plan[name]!r}")
        if "format" not in plan:
            plan = migrations.of_experiment(plan, begun)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no plan ({error}); delete it and run ridefense reproduce {path.parent.name}"
        ) from error
    return plan


def merge(declared: Iterable[Cases]) -> Cases:
    """The cases of several experiments, each once, with the attacks of all."""
    merged: Cases = {}
    for cases in declared:
        for name, evaluation in cases.items():
            before = merged[name].attacks if name in merged else {}
            threats = (before | evaluation.attacks).values()
            merged[name] = replace(evaluation, threats=tuple(threats))
    return merged
