"""What is to be evaluated: declarations, and their settings as records keep them."""

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ridefense import classifiers, datasets
from ridefense.attacks import Attack
from ridefense.classifiers import Classifier
from ridefense.datasets import Dataset
from ridefense.defended import as_purifier, source_of
from ridefense.describe import Plain, describe, fingerprint
from ridefense.errors import InputError
from ridefense.estimators import Estimator, Preset
from ridefense.filters import Unchanged
from ridefense.gradients import GradientMode, Identity
from ridefense.networks import NETWORKS
from ridefense.noise import check_seed, derive
from ridefense.presets import PRESETS
from ridefense.purifier import Purifier

_PACKAGES = (
    *("ridefense", "ridefense-native", "torch", "torchvision", "numpy", "scipy", "scikit-image"),
    *("pillow", "PyWavelets", "pyautoattack", "foolbox"),
)
_SAMPLE = 16
"""Images whose pixels a run is known by: enough to tell one copy of a data set from another."""

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

    @property
    def label(self) -> str:
        """Unique to these settings and fit for a file name, as bpda-linf-0.1-3f9c2a."""
        settings = json.dumps(self.settings(), sort_keys=True)
        digest = hashlib.blake2b(settings.encode(), digest_size=3).hexdigest()
        text = f"{self.name}-{self.attack.norm}-{self.attack.eps:g}-{digest}"
        return re.sub(r"[^a-z0-9._+-]+", "-", text.lower())

    def settings(self) -> Plain:
        return {
            "name": self.name,
            "knows": self.knows,
            "norm": self.attack.norm,
            "eps": self.attack.eps,
            "attack": self.attack.settings(),
            "gradient": describe(self.gradient),
        }


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One defended classifier on one set of images, clean and under attacks.

    Attributes:
        dataset, split: as `datasets.load` takes them.
        limit: how many images are drawn; None for all.
        image_seed: of that draw.
        per_class: at most so many images a class; None for as they come.
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
        rounded: whether the final images are also purified rounded to 8 bits (rule 6 of the
            protocol), which costs as much as one more draw.
    """

    dataset: str
    classifier: str
    split: str = "test"
    limit: int | None = 100
    image_seed: int = 0
    per_class: int | None = None
    purifier: Purifier = field(default=Unchanged())
    threats: tuple[Threat, ...] = ()
    seeds: tuple[int, ...] = (0,)
    draws: int = 5
    batch: int = 25
    device: str = "cpu"
    every: int | None = None
    rounded: bool = True

    def __post_init__(self) -> None:
        for name in ("draws", "batch", "every"):
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
        """Its images, still encoded, and its classifier on its device.

        Raises:
            InputError: where one is missing or they do not fit together.
        """
        images, classifier, _ = _load(self._drawn, self.classifier, self.device)
        if self.purifier.position == "inside":
            _check_inside(self._drawn, self.classifier, self.device, self.purifier)
        return images, classifier

    @property
    def classes(self) -> int:
        """How many the classifier has, which may be more than the images'.

        Raises:
            InputError: as `load`.
        """
        return _load(self._drawn, self.classifier, self.device)[2]

    @property
    def _drawn(self) -> "_Drawn":
        return self.dataset, self.split, self.limit, self.image_seed, self.per_class

    def declared(self) -> Plain:
        """What `run.json` says: everything that decides the numbers."""
        images, classifier = self.load()
        settings = {
            "dataset": {
                "name": _portable(self.dataset),
                "title": images.title,
                "split": self.split,
                "limit": self.limit,
                "image_seed": self.image_seed,
                "images": len(images),
                "fingerprint": fingerprint({"ids": images.ids, "labels": images.labels}),
                "content": _content(images),
                "classes": list(images.classes),
            },
            "classifier": {
                "name": _portable(self.classifier),
                "weights": fingerprint(classifier.state_dict()),
            },
            "preset": _preset_of(self.purifier),
            "purifier": describe(source_of(self.purifier), attributes=True),
            "seeds": list(self.seeds),
            "draws": self.draws if self.is_randomised else 1,
            "batch": self.batch,
            "device": self.device,
            "every": self.every,
        }
        # Absent otherwise: runs that are older go on.
        if not self.rounded:
            settings["rounded"] = False
        if self.per_class is not None:
            settings["dataset"]["per_class"] = self.per_class
        attacks = {label: threat.settings() for label, threat in self.attacks.items()}
        return {"settings": settings, "versions": _versions(), "attacks": attacks}


def check_names(**given: object) -> None:
    """Refuse data sets and classifiers that are objects: any process has to find them by name.

    Raises:
        InputError: for what is no string.
    """
    for what, name in given.items():
        if not isinstance(name, str):
            own = "module:function" if what == "classifier" else "a folder of images"
            raise InputError(
                f"{what} is a {type(name).__name__}; name it, as other processes look it up: "
                f"a known name, a file, or {own}"
            )


_Drawn = tuple[str, str, int | None, int, int | None]
"""What decides which images are loaded."""


@lru_cache(maxsize=2)
def _load(drawn: _Drawn, name: str, device: str) -> tuple[Dataset, Classifier, int]:
    """Images, classifier, and how many classes that has."""
    dataset, split, limit, seed, per_class = drawn
    images = datasets.load(dataset, split, limit, seed, per_class=per_class)
    if not len(images.labels):
        raise InputError(f"{images.title} has no labels; an evaluation needs true classes")
    classifier = classifiers.load(name)
    try:
        classifier = classifier.to(device)
        with torch.no_grad():
            classes = classifier(_first(images).to(device)).shape[1]
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"classifier {name} cannot take {images.title} on {device} "
            f"({str(error).splitlines()[0]}); choose one made for these images"
        ) from error
    if int(images.labels.max()) >= classes:
        raise InputError(
            f"classifier {name} has {classes} classes, {images.title} has more; "
            "choose one made for these images"
        )
    _check_named(dataset, images, name, classes)
    return images, classifier, classes


@lru_cache(maxsize=2)
def _check_inside(drawn: _Drawn, name: str, device: str, inside: Purifier) -> None:
    """Refuse a defence that finds no place in this classifier."""
    images, classifier, _ = _load(drawn, name, device)
    with torch.no_grad():
        inside.behind(classifier)(_first(images).to(device))


def _check_named(dataset: str, images: Dataset, classifier: str, classes: int) -> None:
    """Refuse a folder whose labels are places among sub-folders that are not all the classes."""
    found = images.classes
    numbered = all(name.isdecimal() and int(name) == n for n, name in enumerate(found))
    if dataset in datasets.names() or numbered or len(found) == classes:
        return
    missing = ", or add the missing ones empty" if len(found) < classes else ""
    raise InputError(
        f"{images.title} has {len(found)} classes, {classifier} {classes}; "
        f"name the sub-folders by class number (0 to {classes - 1}){missing}"
    )


def _content(images: Dataset) -> str:
    """What some images, spread over all of them, are once they are decoded."""
    places = torch.linspace(0, len(images) - 1, min(_SAMPLE, len(images))).long().tolist()
    found = {}
    for place in places:
        with suppress(InputError):  # it cannot be decoded, as its row will say
            found[str(place)] = images[place : place + 1].bytes
    return fingerprint(found)


def _first(images: Dataset) -> Tensor:
    """The first image that can be decoded, [1, C, H, W].

    Raises:
        InputError: where none can.
    """
    for n in range(len(images)):
        try:
            return images[n : n + 1].images
        except InputError as error:
            told = error
    raise told


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


def _versions() -> Plain:
    """Of the packages that decide the numbers; None where one is not installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
