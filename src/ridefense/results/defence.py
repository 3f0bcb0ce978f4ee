"""One defence, and everything that was done to it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.evaluate import CLEAN, FAILED, UNREADABLE, Row, RunFolder
from ridefense.results.attack import AttackResult
from ridefense.results.frames import Tabular
from ridefense.results.recorded import UNATTACKED, Ball, RecordedThreat
from ridefense.results.recorded_defence import RecordedDefence
from ridefense.results.statistics import Accuracy, picked, worst


@dataclass(frozen=True)
class DefenceResult(RecordedDefence, Tabular):
    """A run folder as a result: clean images and attacks, finished or not.

    Attributes:
        name: of the folder, as reports show it.
        run: its records.
        planned: attacks by label that are to be run; those of the folder are added.
    """

    planned: Mapping[str, Plain] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, name: str, run: RunFolder, planned: Mapping[str, Plain] | None = None
    ) -> "DefenceResult":
        """The result of a run, checked.

        Raises:
            InputError: where `run.json` lacks what results need.
        """
        result = cls(name, run, planned or {})
        path = run.folder / "run.json"
        try:
            _check(run.settings, _NEEDED)
            _ = result.threats
        except (LookupError, TypeError, AttributeError, InputError) as error:
            raise InputError(
                f"{path} does not declare what a report needs ({error!r}); restore it"
            ) from error
        return result

    # --- What was done to it ---------------------------------------------------------------------

    @cached_property
    def threats(self) -> dict[str, RecordedThreat]:
        """Every attack by label, planned or begun."""
        declared = {**self.planned, **self.run.attacks}
        return {label: RecordedThreat.of(settings) for label, settings in declared.items()}

    @cached_property
    def clean(self) -> AttackResult:
        """The clean images; there may be none of them yet."""
        return self.attack(CLEAN)

    @cached_property
    def every(self) -> tuple[AttackResult, ...]:
        """All attacks, finished or not."""
        return tuple(map(self.attack, self.threats))

    @property
    def reported(self) -> tuple[AttackResult, ...]:
        """What reports show: every attack, or the clean images where there is no attack.

        An attack is left out until it shares a finished image with the clean ones.
        """
        shown = self.every or (self.clean,)
        return tuple(attack for attack in shown if attack.rows and attack.clean.rows)

    @property
    def attacks(self) -> tuple[AttackResult, ...]:
        """Those that are finished on all images."""
        return tuple(attack for attack in self.every if attack.is_finished)

    @property
    def unfinished(self) -> tuple[AttackResult, ...]:
        """Those that are not."""
        return tuple(attack for attack in self.every if not attack.is_finished)

    @cached_property
    def errors(self) -> dict[str, list[Row]]:
        """By label, the rows of attacks that ended in an error, or whose defence did."""
        found: dict[str, list[Row]] = {}
        for row in self.run.rows:
            if row.error is not None:
                found.setdefault(row.attack, []).append(row)
        return found

    def attack(self, label: str) -> AttackResult:
        """The result under a label; without rows where nothing is finished."""
        threat = UNATTACKED if label == CLEAN else self.threats.get(label, UNATTACKED)
        rows = self._complete.get(label, {})
        clean = None if label == CLEAN else self.clean
        return AttackResult(defence=self, label=label, threat=threat, rows=rows, unattacked=clean)

    @cached_property
    def _complete(self) -> dict[str, dict[int, list[Row]]]:
        """By attack and image, the rows of all declared seeds; images that have them alone.

        Rows whose attack ended in an error are none.
        """
        seeds = self.run.settings["seeds"]
        found: dict[str, dict[int, list[Row]]] = {}
        for row in self.run.rows:
            if row.seed in seeds and not {UNREADABLE, FAILED} & {*row.faults}:
                found.setdefault(row.attack, {}).setdefault(row.image, []).append(row)
        return {
            attack: {image: rows for image, rows in by_image.items() if len(rows) == len(seeds)}
            for attack, by_image in found.items()
        }

    def only(self, images: Mapping[str, Collection[int]]) -> "DefenceResult":
        """The same defence as if no other images had been evaluated.

        Args:
            images: by attack, those that stay; attacks that are not named have none.
        """
        rows = tuple(row for row in self.run.rows if row.image in images.get(row.attack, ()))
        most = max(map(len, images.values()), default=0) + len(self.unreadable)
        settings = self.run.settings | {"dataset": self.dataset | {"images": most}}
        return DefenceResult(
            self.name, replace(self.run, rows=rows, settings=settings), self.planned
        )

    @property
    def balls(self) -> list[Ball]:
        """Norms and radii at which an attack is finished, in order."""
        return sorted({attack.threat.ball for attack in self.attacks})

    def at(self, norm: str, eps: float, *, seed_known: bool = False) -> list[AttackResult]:
        """The finished attacks of one ball and one knowledge of the seed, without noise."""
        wanted = (norm, eps), seed_known
        return [attack for attack in self.attacks if _ball_and_seed(attack) == wanted]

    def noise(self, norm: str, eps: float) -> AttackResult | None:
        """Random noise of one ball, where it is finished."""
        found = (attack for attack in self.attacks if attack.threat.is_noise)
        return next((noise for noise in found if noise.threat.ball == (norm, eps)), None)

    def worst_case(self, norm: str, eps: float, *, seed_known: bool = False) -> "WorstCase | None":
        """Over the finished attacks of one ball; None where there is none."""
        attacks = self.at(norm, eps, seed_known=seed_known)
        wanted = (norm, eps), seed_known
        left = sum(_ball_and_seed(attack) == wanted for attack in self.unfinished)
        return WorstCase(self, tuple(attacks), left) if attacks else None

    @property
    def worst_cases(self) -> "Iterator[WorstCase]":
        """Of every ball, without and with knowledge of the seed, in the order of the attacks."""
        for wanted in dict.fromkeys(filter(None, map(_ball_and_seed, self.every))):
            (norm, eps), known = wanted
            if case := self.worst_case(norm, eps, seed_known=known):
                yield case

    def records(self) -> list[Plain]:
        """A flat record for each attack, clean images first."""
        return [attack.record for attack in (self.clean, *self.every) if attack.rows]


@dataclass(frozen=True)
class WorstCase:
    """Several attacks of one ball together: an image counts by the one that is worst for it.

    Attributes:
        defence: what was attacked.
        attacks: those that are finished on all images, at least one.
        unfinished: how many others are planned or begun.
    """

    defence: DefenceResult
    attacks: tuple[AttackResult, ...]
    unfinished: int = 0

    @property
    def norm(self) -> str:
        return self.attacks[0].norm

    @property
    def eps(self) -> float:
        return self.attacks[0].eps

    @property
    def ball(self) -> str:
        """As "ℓ∞ 0.1"."""
        return self.attacks[0].ball

    @property
    def seed_known(self) -> bool:
        """Whether the attackers know the purifier's seed."""
        return self.attacks[0].threat.knows_seed

    @property
    def is_gray_box(self) -> bool:
        """Whether no attacker knows the defence."""
        return all(attack.is_gray_box for attack in self.attacks)

    @cached_property
    def survival(self) -> dict[int, float]:
        """For each image, its survival of the picked worst attack, see `statistics.picked`."""
        return picked([attack.right for attack in self.attacks])

    @property
    def accuracy(self) -> Accuracy:
        """Over images of `survival`."""
        return Accuracy.of(self.survival.values())

    @property
    def minimum(self) -> Accuracy:
        """Over images of the least share of draws; luck of the draws makes it lower."""
        return Accuracy.of(worst([attack.right for attack in self.attacks]).values())

    @property
    def majority(self) -> Accuracy:
        """Images of which the vote of the draws is right under every attack."""
        return Accuracy.of(
            all(attack.elected[image] for attack in self.attacks) for image in self.survival
        )

    @property
    def unsearched(self) -> set[int]:
        """Surviving images on which no attack could have worked."""
        return set.intersection(*(attack.unsearched for attack in self.attacks))

    @property
    def strongest(self) -> AttackResult:
        """The attack with the lowest accuracy by itself."""
        return min(self.attacks, key=lambda attack: attack.accuracy.fraction)


def _ball_and_seed(attack: AttackResult) -> tuple[Ball, bool] | None:
    """What the attacks of a worst case share; None for noise."""
    return None if attack.threat.is_noise else (attack.threat.ball, attack.threat.knows_seed)


_NEEDED: dict[str, Any] = {
    "dataset": {"name": str, "title": str, "split": str, "images": int, "classes": list},
    "classifier": {"name": str, "weights": str},
    "purifier": {"type": str},
    "seeds": list,
    "draws": int,
    "preset": str | None,
}


def _check(settings: Plain, needed: Mapping[str, Any]) -> None:
    for key, kind in needed.items():
        if isinstance(kind, dict):
            _check(settings[key], kind)
        elif not isinstance(settings[key], kind) or isinstance(settings[key], bool):
            raise TypeError(f"{key} is {settings[key]!r}")
