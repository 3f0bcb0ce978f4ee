"""The networks that this package trains, each with its recipe."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from ridefense.images import IMAGENET, MNIST, Normalisation
from ridefense.rivals.feature_denoising import denoised
from ridefense.rivals.thermometer import thermometer


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an architecture is trained: SGD with Nesterov momentum 0.9, one cycle, averaged weights.

    Attributes:
        epochs: passes over the training split, unless the caller says otherwise.
        batch: images a step; an incomplete last batch is left out.
        peak_rate: learning rate after the warm-up, from which it falls to 0 as a cosine.
        warm_up: fraction of the steps in which it rises from 0.
        weight_decay: of weights, not of biases and normalisation.
        smoothing: of the labels.
        average: decay of the exponential moving average of weights, which is what is kept.
        padding: pixels of reflected border around an image before it is cropped.
        crops: side of the random crop, from the first epochs to the last. Smaller crops keep the
            scale of what they show and cost less; the last epochs see the full size.
        flip: whether images are mirrored in every other epoch, half of them in the first.
        bfloat16: whether the network computes in bfloat16; its weights stay in float32.
    """

    epochs: int
    batch: int = 128
    peak_rate: float = 0.05
    warm_up: float = 0.15
    weight_decay: float = 5e-4
    smoothing: float = 0.0
    average: float = 0.995
    padding: int = 4
    crops: tuple[int, ...]
    flip: bool = False
    bfloat16: bool = False

    def rate(self, progress: float) -> float:
        """Learning rate of the step that completes this fraction of the training."""
        if progress < self.warm_up:
            return self.peak_rate * progress / self.warm_up
        fall = (progress - self.warm_up) / (1 - self.warm_up)
        return self.peak_rate * (1 + math.cos(math.pi * fall)) / 2

    def autocast(self, device: torch.device) -> torch.autocast:
        """The precision in which the network computes."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16)

    def crop(self, epoch: int, epochs: int) -> int:
        """Side of the crop in this epoch, counted from 0."""
        return self.crops[epoch * len(self.crops) // epochs]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network, what it was made for, and its recipe.

    Attributes:
        build: makes the network, with fresh weights, from normalised pixels to `classes` logits.
        normalisation: of the pixels that it is given.
        classes: number of logits.
        weights: stem of the weight files that belong to it.
    """

    build: Callable[[], nn.Module]
    normalisation: Normalisation
    classes: int
    weights: str
    recipe: Recipe


def mnist_cnn() -> nn.Module:
    """Two 3×3 convolutions (16 and 32 channels) and two linear layers: 105,866 weights.

    Section 4 of the paper gives the layers but not their sizes.
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def cifar10_resnet18() -> nn.Module:
    """torchvision's ResNet-18 for 32×32 images: a 3×3 first convolution and no max-pooling."""
    from torchvision.models import resnet18

    network: nn.Module = resnet18(num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def cifar10_resnet20() -> nn.Module:
    """A ResNet-20 (He et al. 2016, section 4.2) with projection shortcuts: 272,474 weights.

    Nine of torchvision's basic blocks, of 16, 32 and 64 channels.
    """
    from torchvision.models.resnet import BasicBlock

    blocks: list[nn.Module] = []
    last = 16
    for width in (16, 32, 64):
        for _ in range(3):
            stride = 2 if width > last else 1
            shortcut = None
            if stride == 2:
                projection = nn.Conv2d(last, width, 1, stride=2, bias=False)
                shortcut = nn.Sequential(projection, nn.BatchNorm2d(width))
            blocks.append(BasicBlock(last, width, stride, shortcut))
            last = width
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


ARCHITECTURES = {
    "mnist-cnn": Architecture(
        build=mnist_cnn,
        normalisation=MNIST,
        classes=10,
        weights="mnist-cnn",
        recipe=Recipe(epochs=12, padding=2, crops=(28,)),
    ),
    "cifar10-resnet20": Architecture(
        build=cifar10_resnet20,
        normalisation=IMAGENET,
        classes=10,
        weights="cifar10-resnet20",
        recipe=Recipe(
            epochs=30,
            peak_rate=0.2,
            average=0.998,
            crops=(24, 24, 28, 32),
            flip=True,
        ),
    ),
    "cifar10-resnet18": Architecture(
        build=cifar10_resnet18,
        normalisation=IMAGENET,
        classes=10,
        weights="resnet18-cifar10",
        recipe=Recipe(
            epochs=30,
            batch=64,
            smoothing=0.1,
            average=0.998,
            crops=(24, 24, 28, 32),
            flip=True,
            bfloat16=True,
        ),
    ),
}
"""By the names that `train` takes and weight files hold; a program may add its own."""

# The same networks on thermometer-encoded pixels (Buckman et al. 2018), a defence of Table 2.
ARCHITECTURES |= {
    f"{name}-thermometer": replace(
        plain,
        build=partial(thermometer, plain.build),
        normalisation=Normalisation(mean=(0.0,) * channels, std=(1.0,) * channels),
        weights=f"{plain.weights}-thermometer",
    )
    for name, plain in ARCHITECTURES.items()
    for channels in [len(plain.normalisation.mean)]
}

# With blocks that denoise features (Xie et al. 2019), which its authors train adversarially.
ARCHITECTURES["mnist-cnn-denoising"] = replace(
    ARCHITECTURES["mnist-cnn"],
    build=partial(denoised, mnist_cnn),
    weights="mnist-cnn-denoising",
)
