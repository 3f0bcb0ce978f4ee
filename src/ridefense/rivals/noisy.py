"""Gaussian noise before a purifier: one draw of what randomised smoothing takes the vote of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from torch import Tensor

from ridefense.defended import as_purifier
from ridefense.errors import InputError, check_positive
from ridefense.filters import Filter, Unchanged
from ridefense.images import check_images, moving_with
from ridefense.names import NoisePath
from ridefense.noise import Id, Keys, Stream, derive
from ridefense.purifier import Purifier, named


@dataclass(frozen=True)
class Noisy(Filter):
    """A purifier that is shown the image with fresh Gaussian noise on it.

    The vote of many draws is the smoothed classifier of Cohen et al. 2019, which
    `ridefense.certify` certifies. As a defence of its own it is attacked with EOT.

    Attributes:
        sigma: standard deviation of the noise, in [0, 1] pixels.
        purifier: what comes after the noise.
        path: see `names.NoisePath`. Without a purifier, "raw" leaves pixels beyond [0, 1].
    """

    sigma: float = 0.5
    purifier: Purifier = field(default=Unchanged())
    path: NoisePath = "raw"
    is_randomised = True

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)
        object.__setattr__(self, "purifier", as_purifier(self.purifier))
        if self.path not in get_args(NoisePath):
            raise InputError(f"path is {self.path!r}; use {' or '.join(get_args(NoisePath))}")
        if self.purifier.position != "before":
            raise InputError(
                f"purifier is {named(self.purifier)}, which acts inside the classifier; use one "
                "that acts on images"
            )
        if self.path == "raw" and not self.purifier.takes_raw:
            raise InputError(
                f"purifier {named(self.purifier)} does not take pixels beyond [0, 1]; use "
                'path="clipped"'
            )

    @property
    def differentiable(self) -> bool:  # type: ignore[override]  # as the purifier's
        """Whether PyTorch can differentiate the purifier."""
        return self.purifier.differentiable

    @property
    def is_dynamic(self) -> bool:  # type: ignore[override]  # as the purifier's
        """Whether the purifier optimises at test time."""
        return self.purifier.is_dynamic

    def raw(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        check_images(images, bounded=False)
        keys = Keys.of(derive(seed, "noise"), ids, len(images), images.device)
        noise = keys.normal(Stream.SMOOTHING, [0], math.prod(images.shape[1:])).view_as(images)
        noisy = images + (self.sigma * noise).to(images)
        if self.path == "clipped":
            return self.purifier(moving_with(noisy.clamp(0, 1), noisy), ids, seed)
        if isinstance(self.purifier, Unchanged):
            return noisy
        return self.purifier.raw(noisy, ids, seed)
