"""What an audit consists of, and how it is run: one run folder for each defence."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from ridefense import classifiers, datasets
from ridefense.attacks import APGD, PGD
from ridefense.attacks.norms import NormName
from ridefense.attacks.objective import EOT
from ridefense.audit.answers import ROUNDS, answers
from ridefense.audit.beyond import beyond_norms
from ridefense.audit.budgets import Budget
from ridefense.audit.examination import Examination, examine
from ridefense.audit.findings import examined, read_plan
from ridefense.audit.forecast import Forecast, Until
from ridefense.audit.threats import (
    averaged,
    basic,
    in_order,
    purifications,
    suited,
    threats_for,
)
from ridefense.datasets import Dataset
from ridefense.defended import as_purifier
from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.evaluate import Evaluation, Here, Threat, Workers, identity, read, run_together
from ridefense.evaluate.declaration import check_names
from ridefense.evaluate.running import Progress
from ridefense.files import FolderLock, write_atomically
from ridefense.filters import Unchanged
from ridefense.gradients import Unrolled, imitator, train_surrogate
from ridefense.purifier import Purifier
from ridefense.results import DefenceResult
from ridefense.rivals import JPEG
from ridefense.treatment import NO_TREATMENT, Treatment

CURVE = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Radii of the curve of accuracy against ε."""

FLOWS = (1.0,)
"""Displacements of flows, in pixels."""

UNDEFENDED, BROKEN = "none", "jpeg"
"""Folders of the bare classifier, and of the defence that is known to be broken."""

_RADIUS = 0.1
"""ℓ∞ radius that the attacks of an ℓ2 radius are made from, whose steps keep their share of it."""
_WIDTH = 16  # channels of the surrogate


@dataclass(frozen=True, kw_only=True)
class Audit:
    """A purifier, what stands beside it, and how much is spent on attacking them.

    Attributes:
        dataset, classifier, limit, batch, device: as in `Evaluation`.
        name: of the purifier's run folder, as "ride-paper"; not "none" or "jpeg", which are those
            of the bare classifier and of the control.
        purifier: the one that is audited.
        beside: other defences by the names of their folders; the undefended classifier and a
            defence that is known to be broken are always added.
        hardened: adversarially trained classifiers, as `classifiers.load` takes them.
        radii: ℓ∞, in pixels of [0, 1]; each gets all the attacks.
        l2_radii: ℓ2, likewise, with every attack that has this norm.
        beyond: whether attacks beyond norms are run, too: low frequencies within each radius, and
            flows of pixels.
        flows: longest displacements of these, in pixels.
        budget: what is spent on an image.
        curve: radii that get a few attacks each, for the curve of accuracy against ε.
        image_seed: of the images drawn; the presets were searched on images of another seed.
        draws: fresh draws for each final image, k ≥ 5 for a report.
    """

    dataset: str
    classifier: str
    name: str
    purifier: Purifier
    radii: tuple[float, ...]
    budget: Budget
    l2_radii: tuple[float, ...] = ()
    beyond: bool = False
    flows: tuple[float, ...] = FLOWS
    curve: tuple[float, ...] = CURVE
    beside: dict[str, Purifier] = field(default_factory=dict)
    hardened: tuple[str, ...] = ()
    limit: int = 100
    image_seed: int = 1
    draws: int = 5
    batch: int = 25
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_names(dataset=self.dataset, classifier=self.classifier)
        object.__setattr__(self, "purifier", as_purifier(self.purifier))
        beside = {name: as_purifier(purifier) for name, purifier in self.beside.items()}
        object.__setattr__(self, "beside", beside)
        if not isinstance(self.budget, Budget):
            raise InputError(f"budget is {self.budget!r}; use BUDGETS['quick'] or another Budget")
        for name in ("radii", "l2_radii"):
            if not isinstance(getattr(self, name), tuple):
                raise InputError(f"{name} are {getattr(self, name)!r}; give a tuple, as (0.1, 0.2)")
        if not (self.radii or self.l2_radii or (self.beyond and self.flows)):
            raise InputError(f"radii are {self.radii!r}; give a tuple, as (0.1, 0.2)")
        if any(not 0 < eps < math.inf for eps in self.l2_radii):
            told = ", ".join(f"{eps:g}" for eps in self.l2_radii)
            raise InputError(f"eps of l2 is {told}; use numbers above 0")
        if any(not 0 < eps <= 1 for eps in self.radii):
            told = ", ".join(f"{eps:g}" for eps in self.radii)
            raise InputError(f"eps is {told}; use numbers above 0, to 1")
        for name in self._folders:
            if self._folders.count(name) > 1:
                raise InputError(f"two runs of the audit are named {name!r}; rename one of them")

    def evaluations(
        self,
        surrogate: nn.Module | None = None,
        examination: Examination = Examination(),  # noqa: B008 (it is frozen)
    ) -> Iterator[tuple[str, Evaluation]]:
        """Folder and declaration of every run, the audited defence last.

        Args:
            surrogate: a network that imitates the audited defence.
            examination: what was found of it and of the classifier.
        """
        called = examination.classifier_treatment
        yield UNDEFENDED, self._declare(Unchanged(), called=called)
        for name in self.hardened:
            yield _folder(name), self._declare(Unchanged(), name)
        yield BROKEN, self._declare(JPEG(), called=called)
        for name, purifier in self.beside.items():
            if name not in self._folders:
                yield name, self._declare(purifier, called=called)
        own = self._declare(examination.treated(self.purifier), surrogate=surrogate, called=called)
        if any(f.name == "wrong gradient" and f.about == "defence" for f in examination.findings):
            own = replace(
                own, threats=in_order([*own.threats, *self._by_its_own(own)], own.purifier)
            )
        yield self.name, own

    def _by_its_own(self, evaluation: Evaluation) -> Iterator[Threat]:
        """Attacks by a gradient that is not the derivative, which may be meant to help them."""
        eot = EOT if evaluation.is_randomised else 1
        for norm, eps in self.balls:
            for attack in (
                PGD(eps=eps, norm=norm, eot=eot),
                APGD(eps=eps, norm=norm, steps=self.budget.apgd, eot=eot),
            ):
                yield Threat(attack=attack, gradient=Unrolled())

    @property
    def balls(self) -> tuple[tuple[NormName, float], ...]:
        """Norms and radii that get all the attacks."""
        return (
            *(("Linf", eps) for eps in sorted(self.radii)),
            *(("L2", eps) for eps in sorted(self.l2_radii)),
        )

    @property
    def undefended(self) -> Evaluation:
        """The bare classifier's."""
        return self._declare(Unchanged())

    @property
    def _folders(self) -> tuple[str, ...]:
        """Of every run but those of what stands beside by choice."""
        return UNDEFENDED, BROKEN, self.name, *map(_folder, self.hardened)

    def declared(
        self, evaluations: Mapping[str, Evaluation], examination: Examination | None = None
    ) -> Plain:
        """What `audit.json` says: which folder is what, what was found of the audited defence
        before the attacks, and all that is to be run."""
        return {
            "format": identity.SCHEMA,
            "subject": self.name,
            "undefended": UNDEFENDED,
            "broken": BROKEN,
            "hardened": [_folder(name) for name in self.hardened],
            "radii": sorted(self.radii),
            "l2_radii": sorted(self.l2_radii),
            "flows": sorted(self.flows) if self.beyond else [],
            "planned": {
                name: [threat.recorded for threat in evaluation.attacks.values()]
                for name, evaluation in evaluations.items()
            },
        } | ({} if examination is None else {"examined": examination.recorded()})

    def _declare(
        self,
        purifier: Purifier,
        classifier: str | None = None,
        surrogate: nn.Module | None = None,
        called: Treatment = NO_TREATMENT,
    ) -> Evaluation:
        bare = Evaluation(
            dataset=self.dataset,
            classifier=classifier or self.classifier,
            purifier=purifier,
            limit=self.limit,
            image_seed=self.image_seed,
            draws=self.draws,
            batch=self.batch,
            device=self.device,
            classifier_treatment=called,
            tolerant=True,
        )
        _, loaded = bare.load()
        model = bare.treated(loaded)
        found = [
            threat
            for eps in sorted(self.radii)
            for threat in threats_for(model, purifier, eps, self.budget, surrogate)
        ]
        found += [
            moved
            for eps in sorted(self.l2_radii)
            for threat in threats_for(model, purifier, _RADIUS, self.budget, surrogate)
            if (moved := threat.within("L2", eps))
        ]
        found += [
            threat for eps in self.curve for threat in basic(model, purifier, eps, self.budget)
        ]
        if self.beyond:
            found += beyond_norms(purifier, self.balls, self.flows)
        if called.randomised:
            found = [averaged(threat) for threat in found]
        return replace(bare, threats=in_order(list(suited(found, bare.classes)), purifier))


def carry_out(
    audit: Audit,
    folder: str | os.PathLike[str],
    progress: Progress | None = None,
    workers: Workers = Here(),  # noqa: B008 (it is frozen)
    minutes: float | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Run an audit, or go on where it was interrupted.

    Cheap attacks come first on all images, so that what is finished at any time is a whole set of
    attacks, not a part of the images.

    Args:
        workers: where they are computed, which changes no number.
        minutes: after which it ends; of what is planned the attacks are run that are expected to
            fit, cheapest first. None runs all of it.
        say: is told how long it will take, before it starts.

    Raises:
        InputError: for a declaration that cannot be carried out, or that is not the folder's.
        RideError: where the folder cannot be written to.
    """
    began, folder = time.monotonic(), Path(folder)
    with FolderLock(folder, wait=True):
        examination = _examined(audit, folder / "audit.json")
        surrogate = _surrogate(audit, folder, examination.treated(audit.purifier))
        evaluations = dict(audit.evaluations(surrogate, examination))
        _agree(folder / "audit.json", audit.declared(evaluations, examination))
    if minutes is not None or say is not None:
        forecast = Forecast.of(evaluations, workers)
        if say is not None:
            say(str(forecast))
        if minutes is not None:
            left = began + 60 * minutes - time.monotonic()
            evaluations = forecast.fitting(evaluations, left)
            workers = Until(workers, began + 60 * minutes)
    _run(evaluations, folder, progress, workers)
    if minutes is not None and time.monotonic() >= began + 60 * minutes:
        return
    for _ in range(ROUNDS):
        evaluations = dict(_answered(audit, evaluations, folder))
        _agree(folder / "audit.json", audit.declared(evaluations, examination))
        _run(evaluations, folder, progress, workers)


def _run(
    evaluations: Mapping[str, Evaluation],
    folder: Path,
    progress: Progress | None,
    workers: Workers,
) -> None:
    if evaluations:
        run_together(
            {folder / name: evaluation for name, evaluation in evaluations.items()},
            progress,
            workers,
            _cost,
        )


def _answered(
    audit: Audit, evaluations: Mapping[str, Evaluation], folder: Path
) -> Iterator[tuple[str, Evaluation]]:
    """Of every defence, what answers the indicators of failure of the attacks that were run."""
    for name, evaluation in evaluations.items():
        result = DefenceResult.of(name, read(folder / name))
        found = [
            threat
            for ball in audit.balls
            for threat in answers(result, evaluation, ball, audit.budget)
        ]
        if found:
            yield name, replace(evaluation, threats=tuple(found))


def _cost(evaluation: Evaluation, threat: Threat | None) -> int:
    """Of an attack on an evaluation's defence, in purifications of an image."""
    return -1 if threat is None else purifications(threat, evaluation.purifier)


def _folder(classifier: str) -> str:
    """Of a classifier's run: its name, or that of its file."""
    return Path(classifier).name.removesuffix(".safetensors")


def _agree(path: Path, declared: Plain) -> None:
    """Write what was declared; refuse a folder of another audit. More may be planned in one."""
    declared = json.loads(json.dumps(declared))
    if path.exists():
        old = read_plan(path)
        if old["subject"] != declared["subject"]:
            raise InputError(
                f"{path} audits {old['subject']}, not {declared['subject']}; choose another folder"
            )
        for part in ("hardened", "radii", "l2_radii", "flows"):
            declared[part] = sorted({*old.get(part, ()), *declared[part]})
        for name, attacks in old["planned"].items():
            new = declared["planned"].get(name, [])
            declared["planned"][name] = identity.union(attacks, new)
    write_atomically(path, json.dumps(declared, indent=1).encode())


def _examined(audit: Audit, path: Path) -> Examination:
    """What was found of the defence before its first attack; an interrupted audit goes by that."""
    if path.exists():
        plan = read_plan(path)
        known = examined(plan)
        if known is not None and plan["subject"] == audit.name:
            return known
    images, classifier = audit.undefended.load()
    shown = classifiers.readable(images, 4).to(audit.device)
    return examine(audit.purifier, classifier, shown)


def _surrogate(audit: Audit, folder: Path, defence: Purifier) -> nn.Module | None:
    """The network that imitates the audited purifier, learnt once on images that are not audited.

    None where there is no purifier before the classifier, where it has a derivative, where the
    budget has no surrogate, and where there are no other images.
    """
    imitable = defence.position == "before" and not defence.differentiable
    if not imitable or not audit.budget.imitated:
        return None
    eps = max(audit.radii, default=_RADIUS)
    path = folder / f"{audit.name}.surrogate-{audit.budget.imitated}-{eps:g}.safetensors"
    learnt = _not_audited(audit)
    if not len(learnt):
        return None
    other = learnt.images.to(audit.device)
    if not path.exists():
        made = train_surrogate(defence, other, width=_WIDTH, epochs=60, eps=eps)
        write_atomically(path, save(made.state_dict()))
    network = imitator(other.shape[1], _WIDTH)
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read; delete it, and it is learnt anew") from error
    return network.to(audit.device).requires_grad_(False).eval()


def _not_audited(audit: Audit) -> Dataset:
    """As many images as the budget says: of the train split, or else the rest of the test split.

    They have the size of the audited ones.
    """
    count = audit.budget.imitated
    shown, _ = audit.undefended.load()
    height, width = classifiers.readable(shown, 1).shape[2:]
    size = shown.prepared.sizing or (height, width)
    with suppress(InputError):
        # Of ImageNet the hub would send all of the train split.
        if datasets.family(audit.dataset) != "ImageNet":
            return datasets.load(audit.dataset, "train", count, size=size)
    whole = datasets.load(audit.dataset, size=size)
    audited = whole.drawn(audit.limit, seed=audit.image_seed).ids
    rest = whole[~torch.isin(whole.ids, audited)]
    return rest.drawn(count) if len(rest) else rest
