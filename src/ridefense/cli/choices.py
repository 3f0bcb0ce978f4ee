"""What the command line calls things, and what it takes where nothing is said."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer

from ridefense import datasets
from ridefense.attacks import APGD, FGSM, PGD, AutoAttack, HeldWeights, Square
from ridefense.attacks.base import check_ball
from ridefense.attacks.objective import EOT
from ridefense.errors import InputError
from ridefense.estimators import ESTIMATORS
from ridefense.evaluate import Cluster, Here, Processes, Threat, Workers
from ridefense.filters import Filter, GaussianBlur, Median, TVBregman, TVChambolle, Unchanged
from ridefense.gradients import FrozenWeights, Identity, best_gradient, sees_the_image
from ridefense.purifier import Purifier
from ridefense.rivals import (
    JPEG,
    ActivationPruning,
    BitDepth,
    CropEnsemble,
    DefenseGAN,
    PixelDeflection,
    ResizeAndPad,
    TVMinimisation,
)

FILTERS: dict[str, tuple[Callable[..., Filter], int | float | None]] = {
    "none": (Unchanged, None),
    "median": (Median, 5),
    "tv-chambolle": (TVChambolle, 0.1),
    "tv-bregman": (TVBregman, 5.0),
    "blur": (GaussianBlur, 1.5),
    "jpeg": (JPEG, 75),
    "bit-depth": (BitDepth, 3),
    "tv-minimisation": (TVMinimisation, None),
    "crop-ensemble": (lambda share=CropEnsemble.share: CropEnsemble(share=share), 0.857),
    "resize-and-pad": (ResizeAndPad, 0.9),
    "pixel-deflection": (PixelDeflection, 200),
    "activation-pruning": (ActivationPruning, 1.0),
    "defense-gan": (DefenseGAN, None),
}
"""Purifiers that are no estimators, and an example of the number that may follow after a colon."""


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
    held = "held"
    apgd = "apgd"
    square = "square"
    autoattack = "autoattack"


def radius(text: str) -> float:
    """An ℓ∞ radius: a number, or a fraction as "8/255".

    Raises:
        InputError: for what is neither, and for a radius beyond [0, 1].
    """
    above, slash, below = text.partition("/")
    try:
        eps = float(above) / (float(below) if slash else 1)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"eps is {text!r}; write it as 0.1 or as 8/255") from error
    check_ball(eps, "Linf")
    return eps


# Options that several commands take, with one meaning.
Dataset = Annotated[str, typer.Option(help="digits, mnist, … or a folder; see list")]
ClassifierName = Annotated[
    str | None,
    typer.Option(
        help="see list; yours as package.module:function  [the one made for the data set]"
    ),
]
Network = Annotated[
    NetworkName | None,
    typer.Option(help="Table 3's, with its classifier and ε  [the data set's; a folder: imagenet]"),
]
Radii = Annotated[
    list[float] | None,
    typer.Option(
        parser=radius,
        metavar="EPS",
        help="radius in [0, 1] pixels, as 0.1 or 8/255; may be repeated  [the paper's]",
    ),
]
AttackChoice = Annotated[
    AttackName,
    typer.Option(help="fgsm and pgd know the classifier only, the others the purifier too"),
]
StepSize = Annotated[float | None, typer.Option(help="of pgd, bpda and held  [eps / 5]")]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="of pgd and bpda [10], of held [50], of apgd [100]"),
]
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
    found = _FAMILIES[datasets.family(dataset) or "ImageNet"]
    if network is not None:
        found = next(known for known in _FAMILIES.values() if known.network is network)
    # A classifier trained on MNIST has seen the digits; theirs has not.
    return replace(found, classifier="digits-cnn") if dataset == "digits" else found


def purifier(name: str, preset: str, network: NetworkName, engine: EngineName) -> Purifier:
    """A purifier as the command line names it: "ride", "median", "median:5", …

    Raises:
        InputError: for another name, or a number that does not suit.
    """
    kind, colon, number = name.partition(":")
    if kind in ESTIMATORS:
        if colon:
            raise InputError(f"purifier is {name!r}; leave out {colon + number!r}")
        return replace(ESTIMATORS[kind].preset(preset, network=network), engine=str(engine))
    if kind not in FILTERS:
        known = ", ".join([*FILTERS, *ESTIMATORS])
        raise InputError(f"purifier is {name!r}; use one of {known}, or as median:5")
    make, example = FILTERS[kind]
    if not colon:
        return make()
    if example is None:
        raise InputError(f"purifier is {name!r}; leave out {colon + number!r}")
    try:
        value = type(example)(number)
    except ValueError as error:
        raise InputError(
            f"purifier is {name!r}; leave out {colon + number!r}, or write it as {kind}:{example}"
        ) from error
    return make(value)


def slug(name: str, preset: str) -> str:
    """The folder's name for a purifier: "ride-fast", "median-5"."""
    return f"{name}-{Path(preset).stem}" if name in ESTIMATORS else name.replace(":", "-")


_HAVE = {
    "steps": (AttackName.pgd, AttackName.bpda, AttackName.held, AttackName.apgd),
    "step-size": (AttackName.pgd, AttackName.bpda, AttackName.held),
}
"""The attacks that take an option."""


def threat(
    name: AttackName, eps: float, step_size: float | None, steps: int | None, purifier: Purifier
) -> Threat | None:
    """FGSM and PGD on the bare classifier, shown to the defence; the others through the defence.

    Without `steps` an attack takes its own number of them.

    Raises:
        InputError: where it cannot be made on this purifier, or has no steps of that kind.
    """
    for option, given in (("steps", steps), ("step-size", step_size)):
        if given is not None and name not in _HAVE[option]:
            known = ", ".join(_HAVE[option])
            raise InputError(f"{option} is {given}, which {name} does not have; it is of {known}")
    own = {} if steps is None else {"steps": steps}
    random = purifier.is_randomised
    match name:
        case AttackName.none:
            return None
        case AttackName.fgsm:
            return Threat(attack=FGSM(eps=eps))
        case AttackName.pgd:
            return Threat(attack=PGD(eps=eps, step_size=step_size, **own))
        case AttackName.bpda:
            attack = PGD(eps=eps, step_size=step_size, **own)
        case AttackName.held:
            _check_held(purifier)
            held = HeldWeights(eps=eps, step_size=step_size, **own)
            return Threat(attack=held, gradient=FrozenWeights())
        case AttackName.apgd:
            attack = APGD(eps=eps, eot=EOT if random else 1, **own)
            return Threat(attack=attack, gradient=best_gradient(purifier))
        case AttackName.square:
            attack = Square(eps=eps)
        case AttackName.autoattack:
            attack = AutoAttack(eps=eps, version="rand" if random else "standard")
            return Threat(attack=attack, gradient=best_gradient(purifier))
    return Threat(attack=attack, gradient=Identity())


def _check_held(purifier: Purifier) -> None:
    """Refuse before anything is run what `HeldWeights` would refuse at its first step."""
    if not sees_the_image(purifier):
        raise InputError(
            f"attack held is for networks that are fed the image (ride and dae), not for "
            f"{purifier.name}; use bpda"
        )


def workers(count: int | None, address: str | None) -> Workers:
    """This process, so many of this machine, or actors of the Ray cluster at an address."""
    if address is not None:
        return Cluster(address, count)
    return Here() if count in (None, 1) else Processes(count)


def device(name: str | None) -> str:
    """The device that was named; without a name the GPU where there is one.

    Raises:
        InputError: for another name than cpu, cuda or cuda:NUMBER, and a GPU that is not here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name is None:
        return "cuda" if count else "cpu"
    kind, colon, number = name.partition(":")
    if name == "cpu":
        return name
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise InputError(f"device is {name!r}; use cpu or cuda")
    if not count:
        raise InputError(f"device is {name!r}, and there is no GPU here; use cpu")
    if int(number or 0) >= count:
        raise InputError(f"device is {name!r}, and the last GPU here is cuda:{count - 1}; use that")
    return name


def check_target(path: Path, *suffixes: str) -> None:
    """Refuse a file that could not be written, or not be used, after minutes of work.

    Raises:
        InputError: for another suffix, a folder that is missing, and one in the file's place.
    """
    if path.suffix not in suffixes:
        raise InputError(f"{path} does not end in {suffixes[0]}; name a {suffixes[0]} file")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is no folder; make it, or choose another for {path.name}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {path}; choose another name or a writable folder")
