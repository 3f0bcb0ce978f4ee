"""The scales of experiments: how many images, of which data sets, with which classifiers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

from ridefense.errors import InputError
from ridefense.estimators import RIDE, Estimator
from ridefense.evaluate import Evaluation, Threat
from ridefense.filters import Unchanged
from ridefense.names import ScaleName
from ridefense.purifier import Purifier

if TYPE_CHECKING:
    from ridefense.classifiers import Classifier

DataName = Literal["mnist", "cifar10", "imagenet"]

SEED = 1
"""The seed of every experiment."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class DataSource:
    """What stands for one of the paper's three data sets.

    Attributes:
        dataset: as `datasets.load` takes it.
        classifier: as `classifiers.load` takes it.
        batch: images in a chunk.
    """

    dataset: str
    classifier: str
    batch: int


def untrained() -> "Classifier":
    """A classifier of 10 classes of colour images with random weights, the same in every call."""
    from torch import nn

    from ridefense.classifiers import Classifier, Info
    from ridefense.images import IMAGENET

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 10),
        )
    info = Info(name="untrained", architecture="untrained", dataset="nothing")
    return Classifier(IMAGENET, network, info)


SCALES: dict[ScaleName, dict[DataName, DataSource]] = {
    # Data and weights that Python packages contain. None has a classifier of CIFAR-10, and fits
    # have two steps: this scale tests the code, and its numbers mean nothing.
    "smoke": {
        "mnist": DataSource("digits", "digits-cnn", 2),
        "cifar10": DataSource("foolbox-cifar10", f"{__name__}:untrained", 2),
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
"""Data and classifiers by scale: a test of the code, hours on two cores, the paper's own sizes."""


@dataclass(frozen=True)
class Setup:
    """A scale, with the user's own data sets and classifiers in place of some of its.

    Attributes:
        scale: one of `SCALES`.
        sources: data and classifier for each of the three data sets.
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
        """The value for this scale."""
        return {"smoke": smoke, "laptop": laptop, "paper": paper}[self.scale]

    def estimator(
        self,
        data: DataName,
        preset: str = "paper",
        kind: type[Estimator] = RIDE,
        **changes: Any,
    ) -> Estimator:
        """An estimator for a data set; at scale `smoke`, two rounds of two steps."""
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
        """An evaluation on a data set; at scale `smoke`, on one chunk.

        At scale `paper` ImageNet has two images of each class, as in section 4 of the paper.
        """
        source = self.sources[data]
        smoke = self.scale == "smoke"
        return Evaluation(
            dataset=source.dataset,
            classifier=classifier or source.classifier,
            purifier=purifier,
            threats=threats,
            limit=min(source.batch, images or source.batch) if smoke else images,
            per_class=2 if self.scale == "paper" and data == "imagenet" else None,
            seeds=(SEED,),
            draws=min(draws, 2) if smoke else draws,
            batch=batch or source.batch,
            device=self.device,
            every=every and (1 if smoke else every),
            rounded=rounded,
        )
