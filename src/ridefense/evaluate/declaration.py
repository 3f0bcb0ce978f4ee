"""What evaluations and certificates have in common: a defended classifier on some images."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ridefense import classifiers
from ridefense.classifiers import Classifier
from ridefense.datasets import Dataset
from ridefense.defended import as_purifier, source_of, treatment_of
from ridefense.describe import Plain
from ridefense.errors import InputError, UserCodeError
from ridefense.estimators import Estimator, Preset
from ridefense.evaluate import identity, loading
from ridefense.files import check_name
from ridefense.filters import Unchanged
from ridefense.networks import NETWORKS
from ridefense.noise import check_seed
from ridefense.purifier import Purifier
from ridefense.treatment import NO_TREATMENT
from ridefense.whole import WholeModel


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """One defended classifier on one set of images.

    Attributes:
        dataset, split: as `datasets.load` takes them.
        limit: how many images are drawn; None for all.
        image_seed: of that draw.
        per_class: at most so many images a class; None for as they come.
        stride: 20 for every 20th image of the split, of which `limit` are drawn.
        size: side in pixels that images are brought to; None for that which the classifier was
            made for, or else their own.
        classifier: as `classifiers.load` takes it; of a `WholeModel` its undefended counterpart.
        purifier: the defence: a purifier, a defence inside the classifier, or a `WholeModel`;
            `Unchanged()` for none.
        batch: images a chunk, the unit of work; a kill loses at most one. Numbers may depend on it
            to rounding, so it is part of the declaration.
        device: where it is computed, "cpu" or "cuda".
    """

    dataset: str
    classifier: str
    split: str = "test"
    limit: int | None = 100
    image_seed: int = 0
    per_class: int | None = None
    size: int | None = None
    stride: int = 1
    purifier: Purifier = field(default=Unchanged())
    batch: int = 25
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("batch", "size", "stride"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; use at least 1")
        object.__setattr__(self, "image_seed", check_seed(self.image_seed, "image_seed"))
        check_names(dataset=self.dataset, classifier=self.classifier)
        object.__setattr__(self, "purifier", as_purifier(self.purifier))
        if isinstance(self.purifier, Preset):
            raise InputError(
                f"purifier is preset {self.purifier.preset!r} without a network, which records "
                f"name; use preset({self.purifier.preset!r}, network='mnist') or another of them"
            )

    def load(self) -> tuple[Dataset, Classifier]:
        """Its images, still encoded, and its classifier on its device, as they are now.

        Raises:
            InputError: if one is missing or they do not fit together.
        """
        loaded = self.find(check=True)
        if self.purifier.position != "before":
            self._check_model(loaded)
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

    def _check_model(self, loaded: loading.Loaded) -> None:
        """Refuse a defence that finds no place in the classifier, or that does not fit the images.

        Raises:
            InputError: that names the defence.
        """
        defence = self.purifier
        if isinstance(defence, WholeModel):  # another, for it may count its calls
            defence = defence.treated(defence.treatment)
        model = defence.behind(loaded.classifier)
        image = classifiers.readable(loaded.images, 1).to(self.device)
        try:
            with torch.no_grad():
                count = model(image).shape[1]
        except UserCodeError as error:
            takes = classifiers.shape_taken(model, image)
            if takes is None:
                raise
            raise UserCodeError(f"{error}; it takes images {takes}") from error.__cause__
        if count - model.refuses != loaded.classes:
            own = f"{count - model.refuses} classes" + (" and refusals" if model.refuses else "")
            remedy = (
                "; if the last logit is a refusal, give the model the attribute refuses = True"
                if count == loaded.classes + 1 and not model.refuses
                else "; choose two models of the same classes"
            )
            raise InputError(
                f"{defence.name} has {own}, {self.classifier} has {loaded.classes}{remedy}"
            )

    def find(self, *, check: bool) -> loading.Loaded:
        """Its images and its classifier.

        Args:
            check: whether to read again what has changed on the disk since it was read.

        Raises:
            InputError: as `load`.
        """
        drawn = loading.Drawn(
            self.dataset,
            self.split,
            self.limit,
            self.image_seed,
            self.per_class,
            self.size,
            self.stride,
        )
        return loading.load(drawn, self.classifier, self.device, check=check)

    def subject(self) -> Plain:
        """Images, classifier and purifier as `identity` writes them.

        Raises:
            InputError: as `load`, and for an object whose settings cannot be recorded.
        """
        self.load()
        loaded = self.find(check=False)
        treatment = treatment_of(self.purifier)
        return {
            "dataset": self._declared_images(loaded),
            "classifier": {"name": _portable(self.classifier), "weights": loaded.weights},
            "preset": _preset_of(self.purifier),
            "purifier": self._declared_purifier(),
        } | ({} if treatment == NO_TREATMENT else {"treatment": treatment.recorded()})

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
            "stride": self.stride,
            "images": len(images),
            "fingerprint": loaded.drawn,
            "content": loaded.content,
            "preparation": images.preparation,
            "classes": list(images.classes),
        }


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
    for name, network in itertools.product(purifier.presets, NETWORKS):
        if set(purifier.differences(type(purifier).preset(name, network=network))) <= {"engine"}:
            return name
    return "custom"


def _portable(name: str) -> str:
    """A known name as it is, of a path its last part: records are read on other machines."""
    return Path(name).name if Path(name).exists() else name
