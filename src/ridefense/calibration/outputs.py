"""Mirages whose outputs are no logits, or have none of their gradient: classifiers by functions.

Each function loads the bare classifier and returns it with something done to its outputs, which
leaves its decision as it is (a vote or a rounding moves it by no more than 1e-3 of a pixel does).
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ridefense import classifiers
from ridefense.calibration.hiding import TOLERANCE
from ridefense.classifiers import Classifier
from ridefense.images import Normalisation

BARE = "digits-cnn"
"""The classifier that the mirages hide."""

Change = Callable[[Tensor], Tensor]


class Masked(nn.Module):
    """A network with something done to its outputs."""

    def __init__(self, network: nn.Module, change: Change) -> None:
        super().__init__()
        self.network, self._change = network, change

    def forward(self, images: Tensor) -> Tensor:
        return self._change(self.network(images))


def masked(change: Change, name: str) -> Classifier:
    """The bare classifier with something done to its outputs."""
    return replacing(lambda network: Masked(network, change), name)


def replacing(change: Callable[[nn.Module], nn.Module], name: str) -> Classifier:
    """The bare classifier with something done to it, from pixels to outputs."""
    bare = classifiers.load(BARE)
    info = replace(bare.info, name=name, architecture=name)
    return Classifier(_AS_IT_IS, change(bare), info).frozen()


_AS_IT_IS = Normalisation(mean=(0.0,), std=(1.0,))


def softmax() -> Classifier:
    return masked(lambda z: z.softmax(dim=1), "softmax")


def softmax_of_100() -> Classifier:
    return masked(lambda z: (100 * z).softmax(dim=1), "softmax_of_100")


def log_softmax() -> Classifier:
    return masked(lambda z: z.log_softmax(dim=1), "log_softmax")


def times_1e4() -> Classifier:
    return masked(lambda z: 1e4 * z, "times_1e4")


def times_1e_6() -> Classifier:
    return masked(lambda z: 1e-6 * z, "times_1e_6")


def plus_1e8() -> Classifier:
    return masked(lambda z: z.double() + 1e8, "plus_1e8")


def half_precision() -> Classifier:
    return masked(lambda z: _keeping_the_class(z, (100 * z).half()), "half_precision")


def rounded() -> Classifier:
    return masked(lambda z: _keeping_the_class(z, (10 * z).round() / 10), "rounded")


def whole_numbers() -> Classifier:
    return masked(lambda z: _keeping_the_class(z, z.round()), "whole_numbers")


def decisions() -> Classifier:
    return masked(_one_hot, "decisions")


def ranks() -> Classifier:
    return masked(lambda z: z.argsort(dim=1).argsort(dim=1).to(z), "ranks")


def tanh() -> Classifier:
    return masked(lambda z: _keeping_the_class(z, z.tanh()), "tanh")


def random_scores() -> Classifier:
    return masked(lambda z: 2 * _one_hot(z) + torch.rand_like(z), "random_scores")


def votes() -> Classifier:
    return replacing(Votes, "votes")


class Votes(nn.Module):
    """The share of votes of nine copies, each of which sees the image moved by ±1e-3."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        total = torch.zeros(())
        for _ in range(9):
            sign = 2 * torch.rand(images.shape[1:], generator=generator).round() - 1
            moved = (images + TOLERANCE * sign.to(images)).clamp(0, 1)
            total = total + _one_hot(self.network(moved)) / 9
        return total


def _one_hot(logits: Tensor) -> Tensor:
    return F.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits)


def _keeping_the_class(logits: Tensor, changed: Tensor) -> Tensor:
    """The changed outputs, in which the class of the logits wins ties by a hair."""
    hair = torch.finfo(changed.dtype).eps * changed.abs().amax(dim=1, keepdim=True).clamp_min(1)
    return (changed + 4 * hair * _one_hot(logits)).to(changed)
