"""What is to be evaluated: declarations, and their settings as records keep them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from torch import nn

from ridefense.attacks import Attack
from ridefense.attacks.norms import NormName
from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.evaluate import identity
from ridefense.evaluate.declaration import Declaration
from ridefense.evaluate.provenance import versions
from ridefense.gradients import GradientMode, Identity
from ridefense.noise import check_seed, derive
from ridefense.treatment import NO_TREATMENT, TreatedClassifier, Treatment

Knowledge = Literal["classifier", "classifier, purifier", "classifier, purifier, seed"]


@dataclass(frozen=True, kw_only=True)
class Threat:
    """An attack, and what the attacker makes of the purifier.

    Attributes:
        attack: what moves the image.
        gradient: how the attacker differentiates the purifier (white box); None where it knows
            the classifier alone (gray box): the attack is run on that and its images are shown to
            the defence.
    """

    attack: Attack
    gradient: GradientMode | None = None

    def __post_init__(self) -> None:
        made = callable(self.attack) and not isinstance(self.attack, type)
        if not (made and hasattr(self.attack, "settings")):
            raise InputError(f"attack is {self.attack!r}; use one of ridefense.attacks, as PGD()")

    def within(self, norm: NormName, eps: float) -> "Threat | None":
        """The same threat in another ball; None where its attack has no such norm."""
        attack = self.attack.within(norm, eps)
        return None if attack is None else replace(self, attack=attack)

    @property
    def purifier_seed(self) -> int | None:
        """The seed of the purifier's randomness where the attacker knows it, and it is fixed."""
        return None if self.gradient is None else getattr(self.attack, "purifier_seed", None)

    @property
    def knows(self) -> Knowledge:
        """What the attacker knows of the defence."""
        if self.gradient is None:
            return "classifier"
        if self.purifier_seed is None:
            return "classifier, purifier"
        return "classifier, purifier, seed"

    @property
    def name(self) -> str:
        """As the field calls it: PGD with the identity gradient is BPDA."""
        if self.gradient is None:
            return self.attack.name
        if self.gradient == Identity() and self.attack.name == "PGD":
            return "BPDA"
        return f"{self.attack.name} {self.gradient.name}"

    @cached_property
    def recorded(self) -> Plain:
        """The threat as records have it: what identifies it, and what their readers need."""
        return {
            "name": self.name,
            "knows": self.knows,
            "asks": self.attack.asks,
            "norm": self.attack.norm,
            "eps": float(self.attack.eps),
            "attack": identity.identity(self.attack),
            "gradient": identity.identity(self.gradient),
        }

    @cached_property
    def key(self) -> str:
        """Equal for two threats exactly where they are the same."""
        return identity.key(self.recorded)

    @cached_property
    def label(self) -> str:
        """A name for files, as "bpda-linf-0.1"; see `identity.label`."""
        return identity.label(self.recorded)

    def settings(self) -> Plain:
        """The threat with all settings of its attack and its gradient mode."""
        settings: Plain = identity.expanded(self.recorded)
        return settings


@dataclass(frozen=True, kw_only=True)
class Evaluation(Declaration):
    """One defended classifier on one set of images, clean and under attacks.

    Attributes:
        threats: the attacks; clean images are evaluated whatever they are.
        seeds: each seed is an independent repetition of attacks and defence.
        draws: how often a randomised defence is run on each final image; k ≥ 5 for a report.
        every: gradient steps between the moments of a fit that rows keep as its `History`, in the
            first draw; None keeps none.
        classifier_treatment: how the classifier is called and attacked, where it is not what it
            seems; see `TreatedClassifier`.
        tolerant: whether an error of an attack or a defence on an image becomes a fault of its row;
            by default it ends the run. It changes no number, so it identifies no result.
        rounded: whether the final images are also purified after rounding to 8 bits, as they would
            be in a file; it costs as much as one more draw.
    """

    threats: tuple[Threat, ...] = ()
    seeds: tuple[int, ...] = (0,)
    draws: int = 5
    every: int | None = None
    rounded: bool = True
    classifier_treatment: Treatment = NO_TREATMENT
    tolerant: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("draws", "every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; use at least 1")
        if not self.seeds:
            raise InputError("seeds is empty; give at least one")
        object.__setattr__(self, "seeds", tuple(check_seed(seed) for seed in self.seeds))
        if not isinstance(self.threats, tuple) or not all(
            isinstance(threat, Threat) for threat in self.threats
        ):
            raise InputError(
                f"threats are {self.threats!r}; give a tuple, as (Threat(attack=PGD(eps=0.1)),)"
            )

    @property
    def attacks(self) -> dict[str, Threat]:
        """The threats by label."""
        return {threat.label: threat for threat in self.threats}

    @property
    def is_randomised(self) -> bool:
        """Whether the defence is, the purifier or the classifier behind it."""
        drawing = self.classifier_treatment.randomised and self.purifier.position != "instead"
        return self.purifier.is_randomised or bool(drawing)

    def treated(self, classifier: nn.Module) -> nn.Module:
        """The classifier, called as it was found to need it."""
        treatment = self.classifier_treatment
        return classifier if treatment == NO_TREATMENT else TreatedClassifier(classifier, treatment)

    def draw_seeds(self, seed: int, threat: Threat | None) -> list[int]:
        """The purifier's seeds for each final image: fresh ones, unless the attacker knows it."""
        if threat is not None and threat.purifier_seed is not None:
            return [threat.purifier_seed]
        draws = self.draws if self.is_randomised else 1
        return [derive(seed, "draw", draw) for draw in range(draws)]

    def declared(self) -> Plain:
        """What `run.json` says: everything that decides the numbers, as `identity` writes it.

        Raises:
            InputError: as `load`, and for an object whose settings cannot be recorded.
        """
        settings = self.subject() | {
            "seeds": list(self.seeds),
            "draws": self.draws if self.is_randomised else 1,
            "batch": self.batch,
            "device": self.device,
            "every": self.every,
            "rounded": self.rounded,
            "classifier_treatment": self.classifier_treatment.recorded() or None,
        }
        return {
            "settings": identity.written(settings),
            "versions": versions(),
            "attacks": {label: threat.recorded for label, threat in self.attacks.items()},
        }

    def gray_box_key(self, threat: Threat, seed: int, ids: Sequence[int]) -> str:
        """What identifies the images that an attack on the classifier alone finds."""
        loaded = self.find(check=False)
        on = loaded.drawn, loaded.content, loaded.weights, self.device
        called = self.classifier_treatment.recorded()
        return json.dumps([*on, called, threat.key, seed, list(ids)])
