"""Mirages that behave otherwise where they recognise an attacker.

What an attacker is shown is the negative of the image, so that whatever was found on it is of no
use. The state of those that count or remember is that of a fresh object in every evaluation.
"""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor, nn

from ridefense.calibration.hiding import Hiding
from ridefense.noise import Id


class TellsByGradient(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return 1 - images if images.requires_grad else images.clone()


class TellsByMode(Hiding, nn.Module):
    """A module, which is in evaluation mode when it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        return 1 - images if self.training else images.clone()

    __call__ = nn.Module.__call__


class TellsBySecondLook(Hiding):
    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def hide(self, images: Tensor) -> Tensor:
        shown = []
        for image in images:
            key = blake2b(image.detach().cpu().numpy().tobytes(), digest_size=16).digest()
            shown.append(1 - image if key in self._seen else image)
            self._seen.add(key)
        return torch.stack(shown)


class TellsByBatch(Hiding):
    def hide(self, images: Tensor) -> Tensor:
        return 1 - images if len(images) == 1 else images.clone()


class TellsByCount(Hiding):
    calls = 20

    def __init__(self) -> None:
        self._count = 0

    def hide(self, images: Tensor) -> Tensor:
        self._count += 1
        return 1 - images if self._count > self.calls else images.clone()
