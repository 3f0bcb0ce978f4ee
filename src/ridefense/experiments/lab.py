"""Where experiments are run: at which size, on which images, behind which classifiers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from ridefense.errors import InputError
from ridefense.estimators import RIDE, Estimator
from ridefense.evaluate import Evaluation, Threat
from ridefense.filters import Unchanged
from ridefense.purifier import Purifier

ScaleName = Literal["smoke", "laptop", "paper"]
FieldName = Literal["mnist", "cifar10", "imagenet"]

SEED = 1
"""Of attacks and defences in every experiment."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Field:
    """One of the paper's three data sets, as it is played here.

    Attributes:
        dataset: as `datasets.load` takes it.
        classifier: as `classifiers.load` takes it.
        batch: images a chunk.
    """

    dataset: str
    classifier: str
    batch: int


SCALES: dict[ScaleName, dict[FieldName, Field]] = {
    # What ships inside Python packages. CIFAR-10's classes mean nothing to this classifier, and
    # two steps of a fit mean nothing at all: it is the machinery that is tried.
    "smoke": {
        "mnist": Field("digits", "digits-cnn", 2),
        "cifar10": Field("foolbox-cifar10", "efficientnet-lite0", 2),
        "imagenet": Field("foolbox-imagenet", "efficientnet-lite0", 1),
    },
    "laptop": {
        "mnist": Field("mnist", "mnist-cnn", 25),
        "cifar10": Field("cifar10", "cifar10-resnet18", 10),
        "imagenet": Field("imagenet", "efficientnet-lite0", 4),
    },
    "paper": {
        "mnist": Field("mnist", "mnist-cnn", 100),
        "cifar10": Field("cifar10", "cifar10-resnet18", 100),
        "imagenet": Field("imagenet", "torchvision:resnet50", 8),
    },
}
"""How each data set is played at each scale: to see that it runs, in hours on two cores, and with
the paper's own sizes and classifiers."""


@dataclass(frozen=True)
class Lab:
    """A scale, with what its user has in place of its data sets and classifiers.

    Attributes:
        scale: one of `SCALES`.
        fields: how the three data sets are played.
        device: "cpu" or "cuda".
    """

    scale: ScaleName
    fields: Mapping[FieldName, Field]
    device: str = "cpu"

    @classmethod
    def at(
        cls,
        scale: str,
        datasets: Mapping[str, str] | None = None,
        classifiers: Mapping[str, str] | None = None,
        device: str = "cpu",
    ) -> "Lab":
        """The lab of a scale.

        Args:
            datasets: others than the scale's, by "mnist", "cifar10", "imagenet".
            classifiers: the same.

        Raises:
            InputError: for another scale or data set.
        """
        if scale not in SCALES:
            raise InputError(f"scale is {scale!r}; use one of {', '.join(SCALES)}")
        fields = dict(SCALES[scale])
        for part, given in (("dataset", datasets or {}), ("classifier", classifiers or {})):
            for name, value in given.items():
                if name not in fields:
                    raise InputError(f"{part} of {name!r}; use one of {', '.join(fields)}")
                fields[name] = replace(fields[name], **{part: value})
        return cls(scale, fields, device)

    def pick(self, *, smoke: _T, laptop: _T, paper: _T) -> _T:
        """What belongs to this scale."""
        return {"smoke": smoke, "laptop": laptop, "paper": paper}[self.scale]

    def estimator(
        self,
        field: FieldName,
        preset: str = "paper",
        kind: type[Estimator] = RIDE,
        **changes: object,
    ) -> Estimator:
        """An estimator for a data set; two rounds of two steps in the smoke."""
        made = replace(kind.preset(preset, network=field), **changes)
        if self.scale == "smoke":
            return replace(made, steps=2, rounds=2, samples=1, refits=0)
        return made

    def evaluation(
        self,
        field: FieldName,
        purifier: Purifier = Unchanged(),  # noqa: B008 (it is frozen)
        threats: tuple[Threat, ...] = (),
        *,
        images: int | None,
        draws: int = 1,
        every: int | None = None,
        batch: int | None = None,
        classifier: str | None = None,
        rounded: bool = True,
    ) -> Evaluation:
        """An evaluation on a data set; a chunk of it in the smoke.

        At scale `paper` ImageNet has the two images a class of the paper's section 4.
        """
        played = self.fields[field]
        smoke = self.scale == "smoke"
        return Evaluation(
            dataset=played.dataset,
            classifier=classifier or played.classifier,
            purifier=purifier,
            threats=threats,
            limit=min(played.batch, images or played.batch) if smoke else images,
            per_class=2 if self.scale == "paper" and field == "imagenet" else None,
            seeds=(SEED,),
            draws=min(draws, 2) if smoke else draws,
            batch=batch or played.batch,
            device=self.device,
            every=every and (1 if smoke else every),
            rounded=rounded,
        )
