"""What is to be evaluated: declarations, and their settings as records keep them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from ridefense import classifiers
from ridefense.attacks import Attack
from ridefense.classifiers import Classifier
from ridefense.datasets import Dataset
from ridefense.defended import as_purifier, source_of
from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.estimators import Estimator, Preset
from ridefense.evaluate import identity, loading
from ridefense.evaluate.provenance import versions
from ridefense.files import check_name
from ridefense.filters import Unchanged
from ridefense.gradients import GradientMode, Identity
from ridefense.networks import NETWORKS
from ridefense.noise import check_seed, derive
from ridefense.presets import PRESETS
from ridefense.purifier import Purifier

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

    @property
    def purifier_seed(self) -> int | None:
        """The seed of the purifier's randomness where the attacker knows it, and it is fixed."""
        return None if self.gradient is None else getattr(self.attack, "purifier_seed", None)

    @property
    def knows(self) -> Knowledge:
        if self.gradient is None:
            return "classifier"
        return "classifier, purifier" + ("" if self.purifier_seed is None else ", seed")

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
class Evaluation:
    """One defended classifier on one set of images, clean and under attacks.

    Attributes:
        dataset, split: as `datasets.load` takes them.
        limit: how many images are drawn; None for all.
        image_seed: of that draw.
        per_class: at most so many images a class; None for as they come.
        size: side in pixels that images are brought to; None for that which the classifier was
            made for, or else their own.
        classifier: as `classifiers.load` takes it.
        purifier: the defence; `Unchanged()` for none.
        threats: the attacks; clean images are evaluated whatever they are.
        seeds: each seed is an independent repetition of attacks and defence.
        draws: how often a randomised defence is run on each final image; k ≥ 5 for a report.
        batch: images a chunk, the unit of work; a kill loses at most one. Numbers may depend on it
            to rounding, so it is part of the declaration.
        device: where it is computed, "cpu" or "cuda".
        every: gradient steps between the moments of a fit that rows keep as its `History`, in the
            first draw; None keeps none.
        rounded: whether the final images are also purified after rounding to 8 bits, as they would
            be in a file; it costs as much as one more draw.
    """

    dataset: str
    classifier: str
    split: str = "test"
    limit: int | None = 100
    image_seed: int = 0
    per_class: int | None = None
    size: int | None = None
    purifier: Purifier = field(default=Unchanged())
    threats: tuple[Threat, ...] = ()
    seeds: tuple[int, ...] = (0,)
    draws: int = 5
    batch: int = 25
    device: str = "cpu"
    every: int | None = None
    rounded: bool = True

    def __post_init__(self) -> None:
        for name in ("draws", "batch", "every", "size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; use at least 1")
        if not self.seeds:
            raise InputError("seeds is empty; give at least one")
        object.__setattr__(self, "seeds", tuple(check_seed(seed) for seed in self.seeds))
        check_seed(self.image_seed, "image_seed")
        check_names(dataset=self.dataset, classifier=self.classifier)
        object.__setattr__(self, "purifier", as_purifier(self.purifier))
        if isinstance(self.purifier, Preset):
            raise InputError(
                f"purifier is preset {self.purifier.preset!r} without a network, which records "
                f"name; use preset({self.purifier.preset!r}, network='mnist') or another of them"
            )
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
        """Whether the purifier is."""
        return self.purifier.is_randomised

    def draw_seeds(self, seed: int, threat: Threat | None) -> list[int]:
        """The purifier's seeds for each final image: fresh ones, unless the attacker knows it."""
        if threat is not None and threat.purifier_seed is not None:
            return [threat.purifier_seed]
        draws = self.draws if self.is_randomised else 1
        return [derive(seed, "draw", draw) for draw in range(draws)]

    def load(self) -> tuple[Dataset, Classifier]:
        """Its images, still encoded, and its classifier on its device, as they are now.

        Raises:
            InputError: if one is missing or they do not fit together.
        """
        loaded = self.find(check=True)
        if self.purifier.position == "inside":
            with torch.no_grad():  # a defence that finds no place in this classifier is refused
                image = classifiers.readable(loaded.images, 1).to(self.device)
                self.purifier.behind(loaded.classifier)(image)
        return loaded.images, loaded.classifier

    def loaded(self) -> tuple[Dataset, Classifier]:
        """As `load` found them last, for the chunks of a run."""
        loaded = self.find(check=False)
        return loaded.images, loaded.classifier

    @property
    def classes(self) -> int:
        """How many the classifier has, which may be more than the images have.

        Raises:
            InputError: as `load`.
        """
        return self.find(check=False).classes

    def find(self, *, check: bool) -> loading.Loaded:
        """Its images and its classifier.

        Args:
            check: whether to read again what has changed on the disk since it was read.

        Raises:
            InputError: as `load`.
        """
        drawn = loading.Drawn(
            self.dataset, self.split, self.limit, self.image_seed, self.per_class, self.size
        )
        return loading.load(drawn, self.classifier, self.device, check=check)

    def declared(self) -> Plain:
        """What `run.json` says: everything that decides the numbers, as `identity` writes it.

        Raises:
            InputError: as `load`, and for an object whose settings cannot be recorded.
        """
        self.load()
        loaded = self.find(check=False)
        settings = {
            "dataset": self._declared_images(loaded),
            "classifier": {"name": _portable(self.classifier), "weights": loaded.weights},
            "preset": _preset_of(self.purifier),
            "purifier": self._declared_purifier(),
            "seeds": list(self.seeds),
            "draws": self.draws if self.is_randomised else 1,
            "batch": self.batch,
            "device": self.device,
            "every": self.every,
            "rounded": self.rounded,
        }
        return {
            "settings": identity.written(settings),
            "versions": versions(),
            "attacks": {label: threat.recorded for label, threat in self.attacks.items()},
        }

    def _declared_purifier(self) -> Plain:
        found = identity.identity(source_of(self.purifier))
        return {"type": found} if isinstance(found, str) else found  # of a function its name

    def _declared_images(self, loaded: loading.Loaded) -> Plain:
        images = loaded.images
        return {
            "name": _portable(self.dataset),
            "title": images.title,
            "split": self.split,
            "limit": self.limit,
            "image_seed": self.image_seed,
            "per_class": self.per_class,
            "size": self.size,
            "images": len(images),
            "fingerprint": loaded.drawn,
            "content": loaded.content,
            "preparation": images.preparation,
            "classes": list(images.classes),
        }

    def gray_box_key(self, threat: Threat, seed: int, ids: Sequence[int]) -> str:
        """What identifies the images that an attack on the classifier alone finds."""
        loaded = self.find(check=False)
        on = loaded.drawn, loaded.content, loaded.weights, self.device
        return json.dumps([*on, threat.key, seed, list(ids)])


def check_names(**given: object) -> None:
    """Refuse data sets and classifiers that are objects: any process has to find them by name.

    Raises:
        InputError: for what is no string, or not UTF-8.
    """
    for what, name in given.items():
        if not isinstance(name, str):
            own = "module:function" if what == "classifier" else "a folder of images"
            raise InputError(
                f"{what} is a {type(name).__name__}; name it, as other processes look it up: "
                f"a known name, a file, or {own}"
            )
        check_name(name)


def _preset_of(purifier: object) -> str | None:
    """The preset whose settings an estimator has, whatever its engine; else "custom".

    None for what is no estimator and so has no presets.
    """
    if not isinstance(purifier, Estimator):
        return None
    for name, network in ((p, n) for p in PRESETS for n in NETWORKS):
        if set(purifier.differences(type(purifier).preset(name, network=network))) <= {"engine"}:
            return name
    return "custom"


def _portable(name: str) -> str:
    """A known name as it is, of a path its last part: records are read on other machines."""
    return Path(name).name if Path(name).exists() else name
