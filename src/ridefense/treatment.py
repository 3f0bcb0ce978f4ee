"""How the code of a user's defence is called, where it is not what it says."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ridefense import usercode
from ridefense.logits import logits_of
from ridefense.noise import Id, derive

T = TypeVar("T")

Ask = Callable[[T, Tensor, Sequence[Id] | None], Tensor]
"""Calls a defence with images and their ids."""


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """What replaces a defence's own word, and how it is called so that attacks measure it.

    Attributes:
        randomised: whether it is taken for randomised; None where its own word is taken.
        differentiable: whether PyTorch's derivative is taken for its own; likewise.
        singly: whether each image is given to it alone.
        restored: whether each call finds it in the state that it was brought in.
        copied: whether it is given copies of the images, which it may change.
        unseen: whether it is never shown that a gradient is wanted.
    """

    randomised: bool | None = None
    differentiable: bool | None = None
    singly: bool = False
    restored: bool = False
    copied: bool = False
    unseen: bool = False

    def call(
        self, defence: T, ask: Ask[T], images: Tensor, ids: Sequence[Id] | None, seed: int
    ) -> Tensor:
        """What a defence makes of images [N, C, H, W].

        PyTorch's, NumPy's and Python's own generators are seeded for the call by seed and ids, so
        that a defence which draws from them is a function of both; afterwards they are as before.

        Args:
            defence: in the state that it was brought in, if it is to be restored.
        """
        known = range(len(images)) if ids is None else ids
        if self.singly and len(images) > 1:
            parts = zip(torch.split(images, 1), known, strict=True)
            return torch.cat([self.call(defence, ask, image, [id_], seed) for image, id_ in parts])
        own = copy.deepcopy(defence) if self.restored else defence
        if self.restored and isinstance(own, nn.Module):
            own.to(images.device)
        shown = images.detach() if self.unseen else images
        shown = shown.clone() if self.copied else shown
        wanted = torch.is_grad_enabled() and not self.unseen
        drawn = derive(seed, "call", *known)
        with usercode.seeded(drawn, images.device), torch.set_grad_enabled(wanted):
            return ask(own, shown, ids)


class Distrusted(nn.Module):
    """A classifier whose gradient is withheld, so that attacks estimate it from answers."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            # The data alone: an attack may differentiate through what is merely detached.
            return logits_of(self.classifier, images.data).data


NO_TREATMENT = Treatment()
"""Of a defence that is what it says."""
