"""PixelDefend of Song et al., "PixelDefend: Leveraging Generative Models to Understand and Defend
against Adversarial Examples" (ICLR 2018), on digits: its purifier and its detector."""

from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ridefense.errors import InputError, check_positive
from ridefense.filters import Filter
from ridefense.rivals.pixel_cnn import PixelCNN, level_of, load_pixel_cnn, value_of


@dataclass(frozen=True)
class PixelDefend(Filter):
    """A likelier image within ε of the one that is given (algorithm 1 of the paper).

    Pixels are visited in raster order. Each becomes the grey level that the network holds for
    likeliest after the pixels that were chosen before it, among those within `eps` of its value.
    Without a derivative: attackers take the identity (BPDA, as Athalye et al. 2018 did).

    Attributes:
        eps: ε_defend, the ℓ∞ radius in [0, 1] pixels.
        network: by `train_pixel_cnn` or `load_pixel_cnn`; by default the one that ships.
    """

    eps: float = 0.3
    network: PixelCNN | None = None
    differentiable = False
    takes_raw = False  # it works on levels of [0, 1]
    is_local = False

    def __post_init__(self) -> None:
        check_positive("eps", self.eps)
        if not isinstance(self.network, PixelCNN | None):
            raise InputError(f"network is {self.network!r:.60}; use load_pixel_cnn(path)")

    def apply(self, images: Tensor) -> Tensor:
        _check_grey(images)
        low, high = (images.detach() - self.eps).clamp_min(0), (images + self.eps).clamp_max(1)
        least, most = (level_of(side)[:, None] for side in (low, high))
        # In double precision, so that no neighbour in the batch changes which level is likeliest.
        network = deepcopy(self.network or _shipped()).to(images.device, torch.float64)
        chosen = network.greedy(images.detach().double(), least, most)
        return value_of(chosen)[:, None].to(images).clamp(low, high).detach()


def p_values(images: Tensor, network: PixelCNN | None = None) -> Tensor:
    """How unlikely images are beside training images, in (0, 1], [N] (equation 3 of the paper).

    The share of the training images and the image itself that are at most as likely as the image.
    It is uniform for images like the training images, so a detector that refuses p < 0.05 refuses
    5% of those.

    Args:
        images: [N, 1, H, W], pixels in [0, 1].
        network: as that of `PixelDefend`.
    """
    _check_grey(images)
    network = deepcopy(network or _shipped()).to(images.device)
    with torch.no_grad():
        found = network.log_likelihood(images.float())
    below = torch.searchsorted(network.reference, found, right=True)
    return (below + 1) / (len(network.reference) + 1)


def _check_grey(images: Tensor) -> None:
    if images.shape[1] != 1:
        raise InputError(
            f"images have shape {tuple(images.shape)}; PixelDefend is for digits [N, 1, H, W]"
        )


@lru_cache(maxsize=1)
def _shipped() -> PixelCNN:
    return load_pixel_cnn()
