"""What the rivals share: keyed randomness, before the classifier or inside it."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ridefense.defended import Defended
from ridefense.filters import Filter
from ridefense.gradients import GradientMode
from ridefense.images import check_images, cut_to_range
from ridefense.noise import Id, Keys
from ridefense.purifier import Position


@dataclass(frozen=True)
class RandomFilter(Filter):
    """A purifier that draws random numbers, for every image its own."""

    is_randomised = True

    def __call__(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        """Purified images, of the same shape, dtype and device; the input is not changed.

        Args:
            images: float [N, C, H, W], pixels in [0, 1].
            ids: N whole numbers or strings, by default 0, 1, …; with `seed` they decide the result.
            seed: 0 ≤ seed < 2¹²⁸.

        Raises:
            InputError: for images, ids or a seed that no purifier takes.
        """
        check_images(images)
        return self.raw(images, ids, seed)

    def raw(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        """As a call, for images with pixels beyond [0, 1]."""
        check_images(images, bounded=False)
        keys = Keys.of(seed, ids, len(images), images.device)
        wide = images if images.dtype == torch.float64 else images.float()
        return cut_to_range(self.draw(wide, keys)).to(images.dtype)

    @abstractmethod
    def draw(self, images: Tensor, keys: Keys) -> Tensor:
        """The filter itself, on checked images in single or double precision."""


@dataclass(frozen=True)
class Inside(Filter):
    """A defence inside the classifier; as a purifier it returns images as they are."""

    is_randomised = True

    @property
    def position(self) -> Position:
        return "inside"

    def apply(self, images: Tensor) -> Tensor:
        return images.clone()

    def behind(
        self, classifier: nn.Module, gradient: GradientMode | None = None, seed: int = 0
    ) -> "DefendedInside":
        """The classifier with this defence in it; the classifier itself is not changed.

        Its derivative is PyTorch's own of one draw, whatever the gradient mode: images reach it
        unpurified.
        """
        return DefendedInside(classifier, self, gradient, seed)

    @abstractmethod
    def logits(self, classifier: nn.Module, images: Tensor, keys: Keys) -> Tensor:
        """Logits [N, classes] of one draw."""


class DefendedInside(Defended):
    """A classifier with randomness in it, which attacks see as they see any `Defended`.

    Its derivative is PyTorch's own, of one draw; average over draws with an attack's `eot`.
    """

    position = "inside"
    purifier: Inside

    def shown(self, images: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
        check_images(images)
        return images[None]

    @torch.no_grad()
    def raw_logits(self, images: Tensor, ids: Sequence[int], seed: int) -> Tensor:
        check_images(images, bounded=False)
        keys = Keys.of(seed, ids, len(images), images.device)
        return self.purifier.logits(self.classifier, images, keys)

    def classified(self, purified: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
        keys = Keys.of(seed, ids, len(purified), purified.device)
        return self.purifier.logits(self.classifier, purified, keys)
