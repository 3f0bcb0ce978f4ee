"""What the tests of toolboxes attack: digits, their classifier, and a RIDE of milliseconds."""

from functools import cache

from torch import Tensor

from ridefense import RIDE, Defended, Network, classifiers, datasets

QUICK = RIDE(
    network=Network(channels=(1, 8, 1)),
    init="kaiming",
    steps=8,
    rounds=2,
    learning_rate=3e-2,
    sigma=0.154,
    samples=2,
    engine="eager",
)
"""Not the paper's: the least work that leaves nearly all digits recognisable."""


@cache
def classifier() -> classifiers.Classifier:
    return classifiers.load("digits-cnn")


def digits(count: int) -> tuple[Tensor, Tensor]:
    """Images [N, 1, 28, 28] and labels."""
    part = datasets.load("digits", limit=count)
    return part.images, part.labels


def correct(model: Defended, images: Tensor, labels: Tensor, draws: int = 4) -> float:
    """How many images are classified right, on average over fresh draws."""
    right = [(model(images, seed=draw).argmax(1) == labels).sum().item() for draw in range(draws)]
    return sum(right) / draws
