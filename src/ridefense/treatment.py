"""How the code of a user's defence is called, where it is not what it says."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from ridefense import usercode
from ridefense.describe import Plain
from ridefense.logits import logits_of
from ridefense.noise import Id, derive

T = TypeVar("T")

Ask = Callable[[T, Tensor, Sequence[Id] | None], Tensor]
"""Calls a defence with images and their ids."""


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """What replaces a defence's own word, and how it is called so that attacks measure it.

    A classifier that is not what it seems is treated in the same way.

    Attributes:
        randomised: whether it is taken for randomised; None where its own word is taken.
        differentiable: whether PyTorch's derivative is taken for its own; likewise.
        singly: whether each image is given to it alone.
        accompanied: whether an image that would be given to it alone is given together with a copy
            of itself, so that it answers as it answers a batch.
        restored: whether each call finds it in the state that it was brought in.
        copied: whether it is given copies of the images, which it may change.
        unseen: whether it is never shown that a gradient is wanted.
    """

    randomised: bool | None = None
    differentiable: bool | None = None
    singly: bool = False
    accompanied: bool = False
    restored: bool = False
    copied: bool = False
    unseen: bool = False

    def recorded(self) -> Plain:
        """The fields that differ from their defaults, as JSON data."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in own.items() if value != getattr(Treatment, name)}

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
        if self.accompanied and len(images) == 1:
            both, names = torch.cat((images, images)), [*known, *known]
            return replace(self, singly=False).call(defence, ask, both, names, seed)[:1]
        own = copy.deepcopy(defence) if self.restored else defence
        if self.restored and isinstance(own, nn.Module):
            own.to(images.device)
        # The data alone: an attack may differentiate through what is merely detached.
        shown = images.data if self.unseen else images
        shown = shown.clone() if self.copied else shown
        wanted = torch.is_grad_enabled() and not self.unseen
        drawn = derive(seed, "call", *known)
        with usercode.seeded(drawn, images.device), torch.set_grad_enabled(wanted):
            return ask(own, shown, ids)


NO_TREATMENT = Treatment()
"""Of a defence that is what it says."""


class TreatedClassifier(nn.Module):
    """A classifier that is called as it was found to need it.

    Its random numbers follow from ids and seed, as those of a `Defended` do.

    Attributes:
        classifier: the classifier itself.
        treatment: `randomised` makes attacks average its draws. `differentiable` is False where
            attacks check its gradient before they follow it.
    """

    def __init__(self, classifier: nn.Module, treatment: Treatment) -> None:
        super().__init__()
        self.classifier = classifier
        self.treatment = treatment
        self._calls = 0

    @property
    def is_randomised(self) -> bool:
        """Whether two calls with different seeds differ."""
        return bool(self.treatment.randomised)

    def forward(
        self, images: Tensor, ids: Sequence[Id] | None = None, seed: int | None = None
    ) -> Tensor:
        """Logits [N, classes] of images [N, C, H, W]; without a seed every call draws anew."""
        if seed is None:
            self._calls += 1
            seed = derive(0, "call", self._calls)

        def ask(own: nn.Module, shown: Tensor, _: object) -> Tensor:
            return logits_of(own, shown)

        return self.treatment.call(self.classifier, ask, images, ids, seed)


def logits_for(
    classifier: nn.Module, images: Tensor, ids: Sequence[Id] | None, seed: int
) -> Tensor:
    """Logits [N, classes] of a classifier, in the draw of these ids and this seed if it has draws.

    Raises:
        InputError, UserCodeError: as `logits_of`.
    """
    if isinstance(classifier, TreatedClassifier):
        found: Tensor = classifier(images, ids, seed)
        return found
    return logits_of(classifier, images)
