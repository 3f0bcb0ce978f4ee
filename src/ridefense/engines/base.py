"""What every engine has in common: its contract, sizes, and the state that fits start from."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ridefense.noise import Keys, Stream
from ridefense.settings import Settings

Progress = Callable[[int, int], None]
"""Called with the image-steps done and their total while a `fit` runs."""


Size = tuple[int, int]
"""Height and width."""


class Fits(Protocol):
    """N networks being fitted; x is always in the units that the networks work in."""

    @property
    def weights(self) -> Tensor:
        """[N, P], see `networks.py`."""

    @property
    def moments(self) -> Tensor:
        """Adam's, [3, N, P]: first, second, and the running maximum of the second."""

    @moments.setter
    def moments(self, moments: Tensor) -> None: ...

    def fit(
        self,
        x: Tensor,
        steps: range,
        rates: Sequence[float],
        start: int = 0,
        progress: Progress | None = None,
    ) -> Tensor:
        """Run these global steps at x [N, C, H, W], each at its learning rate.

        `start` is the step at which Adam's state was last zero. Returns losses [N, len(steps)].
        """

    def output(
        self,
        x: Tensor,
        step: int,
        samples: int,
        *,
        stream: Stream | None = Stream.OUTPUT,
        dropout: bool = False,
    ) -> Tensor:
        """E_z h(z; w) from that many samples of a stream, [N, C, H, W] (Eq. 6).

        Without a stream z carries no noise: it is x, or the fixed input.
        """


Start = Callable[[Settings, Tensor, Keys], tuple[str, Fits]]
"""Starts fits of images [N, C, H, W], in the units that the networks work in: a name, and they."""


def image_size(images: Tensor) -> Size:
    """Of images [..., H, W]."""
    height, width = images.shape[-2:]
    return height, width


def fitted_size(settings: Settings, images: Tensor) -> Size:
    """Of what a step fits: the crop, or the whole image."""
    return (settings.crop, settings.crop) if settings.crop else image_size(images)


def initial_state(settings: Settings, images: Tensor, keys: Keys) -> tuple[Tensor, Tensor]:
    """The weights [N, P] and zero moments [3, N, P] that every engine starts from."""
    weights = settings.network.init(keys, settings.init).to(images)
    return weights, torch.zeros(3, *weights.shape, dtype=weights.dtype, device=weights.device)
