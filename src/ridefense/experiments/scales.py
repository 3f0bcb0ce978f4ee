"""Where experiments are run: at which size, on which images, behind which classifiers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from ridefense.errors import InputError
from ridefense.estimators import RIDE, Estimator
from ridefense.evaluate import Evaluation, Threat
from ridefense.filters import Unchanged
from ridefense.names import ScaleName
from ridefense.purifier import Purifier

DataName = Literal["mnist", "cifar10", "imagenet"]

SEED = 1
"""Of attacks and defences in every experiment."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class DataSource:
    """One of the paper's three data sets, as it is played here.

    Attributes:
        dataset: as `datasets.load` takes it.
        classifier: as `classifiers.load` takes it.
        batch: images a chunk.
    """

    dataset: str
    classifier: str
    batch: int


SCALES: dict[ScaleName, dict[DataName, DataSource]] = {
    # What ships inside Python packages. CIFAR-10's classes mean nothing to this classifier, and
    # two steps of a fit mean nothing at all: it is the machinery that is tried.
    "smoke": {
        "mnist": DataSource("digits", "digits-cnn", 2),
        "cifar10": DataSource("foolbox-cifar10", "efficientnet-lite0", 2),
        "imagenet": DataSource("foolbox-imagenet", "efficientnet-lite0", 1),
    },
    "laptop": {
        "mnist": DataSource("mnist", "mnist-cnn", 25),
        "cifar10": DataSource("cifar10", "cifar10-resnet18", 10),
        "imagenet": DataSource("imagenet", "efficientnet-lite0", 4),
    },
    "paper": {
        "mnist": DataSource("mnist", "mnist-cnn", 100),
        "cifar10": DataSource("cifar10", "cifar10-resnet18", 100),
        "imagenet": DataSource("imagenet", "torchvision:resnet50", 8),
    },
}
"""How each data set is played at each scale: to see that it runs, in hours on two cores, and with
the paper's own sizes and classifiers."""


@dataclass(frozen=True)
class Setup:
    """A scale, with what its user has in place of its data sets and classifiers.

    Attributes:
        scale: one of `SCALES`.
        sources: how the three data sets are played.
        device: "cpu" or "cuda".
    """

    scale: ScaleName
    sources: Mapping[DataName, DataSource]
    device: str = "cpu"

    @classmethod
    def at(
        cls,
        scale: str,
        datasets: Mapping[str, str] | None = None,
        classifiers: Mapping[str, str] | None = None,
        device: str = "cpu",
    ) -> "Setup":
        """The setup of a scale.

        Args:
            datasets: others than the scale's, by "mnist", "cifar10", "imagenet".
            classifiers: the same.

        Raises:
            InputError: for another scale or data set.
        """
        if scale not in SCALES:
            raise InputError(f"scale is {scale!r}; use one of {', '.join(SCALES)}")
        sources = dict(SCALES[scale])
        for part, given in (("dataset", datasets or {}), ("classifier", classifiers or {})):
            for name, value in given.items():
                if name not in sources:
                    raise InputError(f"{part} of {name!r}; use one of {', '.join(sources)}")
                own = sources[name]
                sources[name] = (
                    replace(own, dataset=value)
                    if part == "dataset"
                    else replace(own, classifier=value)
                )
        return cls(scale, sources, device)

    def pick(self, *, smoke: _T, laptop: _T, paper: _T) -> _T:
        """What belongs to this scale."""
        return {"smoke": smoke, "laptop": laptop, "paper": paper}[self.scale]

    def estimator(
        self,
        data: DataName,
        preset: str = "paper",
        kind: type[Estimator] = RIDE,
        **changes: Any,
    ) -> Estimator:
        """An estimator for a data set; two rounds of two steps in the smoke."""
        made = replace(kind.preset(preset, network=data), **changes)
        if self.scale == "smoke":
            return replace(made, steps=2, rounds=2, samples=1, refits=0)
        return made

    def evaluation(
        self,
        data: DataName,
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
        played = self.sources[data]
        smoke = self.scale == "smoke"
        return Evaluation(
            dataset=played.dataset,
            classifier=classifier or played.classifier,
            purifier=purifier,
            threats=threats,
            limit=min(played.batch, images or played.batch) if smoke else images,
            per_class=2 if self.scale == "paper" and data == "imagenet" else None,
            seeds=(SEED,),
            draws=min(draws, 2) if smoke else draws,
            batch=batch or played.batch,
            device=self.device,
            every=every and (1 if smoke else every),
            rounded=rounded,
        )
