"""What the command line calls things, and what it takes where nothing is said."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from ridefense.attacks import FGSM, PGD
from ridefense.defended import Purifier
from ridefense.errors import InputError
from ridefense.estimators import ESTIMATORS
from ridefense.evaluate import Cluster, Here, Processes, Threat, Workers
from ridefense.filters import Filter, GaussianBlur, Median, TVBregman, TVChambolle, Unchanged
from ridefense.gradients import Identity
from ridefense.report.paper import family

FILTERS: dict[str, tuple[Callable[..., Filter], Callable[[str], float] | None]] = {
    "none": (Unchanged, None),
    "median": (Median, int),
    "tv-chambolle": (TVChambolle, float),
    "tv-bregman": (TVBregman, float),
    "blur": (GaussianBlur, float),
}
"""Fixed purifiers, and the type of the one number that may follow after a colon."""


class NetworkName(StrEnum):
    mnist = "mnist"
    cifar10 = "cifar10"
    imagenet = "imagenet"


class EngineName(StrEnum):
    auto = "auto"
    eager = "eager"
    native = "native"
    cuda = "cuda"


class AttackName(StrEnum):
    none = "none"
    fgsm = "fgsm"
    pgd = "pgd"
    bpda = "bpda"


# Options that several commands take, with one meaning.
Dataset = Annotated[str, typer.Option(help="digits, mnist, … or a folder; see list")]
ClassifierName = Annotated[
    str | None, typer.Option(help="by default the one made for the data set")
]
Network = Annotated[
    NetworkName | None,
    typer.Option(help="Table 3's, with its classifier and ε  [the data set's; a folder: imagenet]"),
]
Radii = Annotated[
    list[float] | None,
    typer.Option(help="radius in [0, 1] pixels; may be repeated  [the paper's]"),
]
AttackChoice = Annotated[
    AttackName,
    typer.Option(help="fgsm and pgd know the classifier only, bpda the purifier too"),
]
StepSize = Annotated[float | None, typer.Option(help="of pgd and bpda  [eps / 5]")]
Steps = Annotated[int, typer.Option(min=1, help="of pgd and bpda")]
Engine = Annotated[EngineName, typer.Option(help="what fits the networks")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda  [cuda where there is one]")]
WorkerCount = Annotated[int | None, typer.Option(min=1, help="processes that share the work  [1]")]
RayAddress = Annotated[
    str | None, typer.Option(help="a Ray cluster that does the work: auto, or its address")
]


@dataclass(frozen=True)
class Family:
    """Defaults for data of one kind: its network and classifier, the paper's white-box ε."""

    network: NetworkName
    classifier: str
    eps: float
    batch: int
    gpu_batch: int

    def chunk(self, device: str) -> int:
        """Images a chunk: enough to keep the device's engine busy (docs/gpu.md), no more."""
        return self.batch if device == "cpu" else self.gpu_batch


_FAMILIES = {
    "MNIST": Family(NetworkName.mnist, "mnist-cnn", 0.1, 25, 132),
    "CIFAR-10": Family(NetworkName.cifar10, "cifar10-resnet18", 0.05, 25, 132),
    "ImageNet": Family(NetworkName.imagenet, "torchvision:resnet50", 0.05, 4, 8),
}


def family_of(dataset: str, network: NetworkName | None = None) -> Family:
    """The defaults for a data set, or for a network; a folder is taken for photographs."""
    found = _FAMILIES[family(dataset) or "ImageNet"]
    if network is not None:
        found = next(known for known in _FAMILIES.values() if known.network is network)
    # A classifier trained on MNIST has seen the digits; theirs has not.
    return replace(found, classifier="digits-cnn") if dataset == "digits" else found


def network_for(image: Tensor) -> NetworkName:
    """The network of Table 3 for an image [C, H, W]: by its channels, then by its size."""
    if image.shape[0] == 1:
        return NetworkName.mnist
    return NetworkName.cifar10 if image.shape[1:] == (32, 32) else NetworkName.imagenet


def purifier(name: str, preset: str, network: NetworkName, engine: EngineName) -> Purifier:
    """A purifier as the command line names it: "ride", "median", "median:5", …

    Raises:
        InputError: for another name, or a number that does not suit.
    """
    kind, colon, number = name.partition(":")
    if kind in ESTIMATORS and not colon:
        return replace(ESTIMATORS[kind].preset(preset, network=network), engine=str(engine))
    if kind not in FILTERS:
        known = ", ".join([*FILTERS, *ESTIMATORS])
        raise InputError(f"purifier is {name!r}; use one of {known}, or as median:5")
    make, number_type = FILTERS[kind]
    if not colon:
        return make()
    try:
        if number_type is None:
            raise ValueError
        return make(number_type(number))
    except InputError:
        raise
    except ValueError as error:
        example = "median:5" if number_type is int else "tv-chambolle:0.1"
        raise InputError(
            f"purifier is {name!r}; leave out {colon + number!r}, or write it as {example}"
        ) from error


def slug(name: str, preset: str) -> str:
    """The folder's name for a purifier: "ride-fast", "median-5"."""
    return f"{name}-{Path(preset).stem}" if name in ESTIMATORS else name.replace(":", "-")


def threat(name: AttackName, eps: float, step_size: float | None, steps: int) -> Threat | None:
    """FGSM and PGD on the bare classifier, shown to the defence; BPDA through the defence."""
    if name is AttackName.none:
        return None
    if name is AttackName.fgsm:
        return Threat(attack=FGSM(eps=eps))
    gradient = Identity() if name is AttackName.bpda else None
    return Threat(attack=PGD(eps=eps, step_size=step_size, steps=steps), gradient=gradient)


def workers(count: int | None, address: str | None) -> Workers:
    """This process, so many of this machine, or actors of the Ray cluster at an address."""
    if address is not None:
        return Cluster(address, count)
    return Here() if count in (None, 1) else Processes(count)


def device(name: str | None) -> str:
    """The device that was named; without a name the GPU where there is one."""
    return name or ("cuda" if torch.cuda.is_available() else "cpu")
