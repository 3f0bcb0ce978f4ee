"""Defences that are models by themselves, around a small linear reader of 4×4 images.

Evaluations look them up by name, as "whole_models:Noisy".
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ridefense import classifiers
from ridefense.classifiers import Classifier, Info
from ridefense.images import Normalisation


def reader() -> Classifier:
    """Three classes by the brightness of three columns; the last column is not looked at."""
    linear = nn.Linear(16, 3)
    weight = torch.zeros(3, 4, 4)
    for label in range(3):
        weight[label, :, label] = 1.0
    linear.weight.data, linear.bias.data = weight.flatten(1), torch.zeros(3)
    network = nn.Sequential(nn.Flatten(), linear)
    info = Info(name="reader", architecture="whole_models:reader", dataset="")
    return Classifier(Normalisation((0.0,), (1.0,)), network, info).frozen()


class Changed(nn.Module):
    """The reader of images that something is done to."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.reader, self.change = reader(), change

    def forward(self, images: Tensor) -> Tensor:
        return self.reader(self.change(images))


class Noisy(nn.Module):
    """Noise of its own on every image, from PyTorch's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = reader()

    def forward(self, images: Tensor) -> Tensor:
        return self.reader((images + 0.05 * torch.randn_like(images)).clamp(0, 1))


class Detector(nn.Module):
    """Refuses images whose fourth column is bright."""

    refuses = True
    is_randomised = False

    def __init__(self) -> None:
        super().__init__()
        self.reader = reader()

    def forward(self, images: Tensor) -> Tensor:
        logits = self.reader(images)
        alarm = 20 * (images[:, 0, :, 3].mean(dim=1, keepdim=True) - 0.5)
        return torch.cat((logits, logits.amax(dim=1, keepdim=True) + alarm), dim=1)


class Silent(Detector):
    """The same, which does not say that it refuses."""

    refuses = False


class Digits(nn.Module):
    """The classifier of digits as a defence: no defence."""

    is_randomised = False

    def __init__(self) -> None:
        super().__init__()
        self.reader = classifiers.load("digits-cnn")

    def forward(self, images: Tensor) -> Tensor:
        return self.reader(images)


class Refusing(Digits):
    """Refuses whatever is not a clean digit's black border."""

    refuses = True

    def forward(self, images: Tensor) -> Tensor:
        logits = self.reader(images)
        border = images[:, 0, 0].mean(dim=1, keepdim=True)
        return torch.cat((logits, logits.amax(dim=1, keepdim=True) + 1e3 * (border - 0.02)), dim=1)


def called(images: Tensor) -> Tensor:
    return reader()(images)


ready = Digits()


def nothing() -> None:
    return None


def on_a_gpu(images: Tensor) -> Tensor:
    raise RuntimeError("Found no NVIDIA driver on your system.")


def square(images: Tensor) -> Tensor:
    """For images of 32×32 pixels alone."""
    return images.reshape(len(images), -1, 1024)[:, 0, :10]
