"""PGD on low frequencies alone, which purifiers that smooth or denoise let pass."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ridefense.attacks.descent import PGD, Ascent
from ridefense.errors import check_share


@dataclass(frozen=True, kw_only=True)
class LowFrequency(PGD):
    """PGD in the space of the lowest frequencies (Guo et al., "Low Frequency Adversarial
    Perturbation", UAI 2019).

    The perturbation is a combination of the lowest functions of the discrete cosine transform.
    Where it would leave the ball it is scaled, which keeps it in that space; where a pixel would
    leave [0, 1] it is cut, which does not.

    Attributes:
        share: of the frequencies along each side that are used, lowest first.
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("share", self.share)

    def climb(self, run: Ascent, images: Tensor) -> Tensor:
        norm, centre = run.norm, run.centre
        change = self._scaled(run, low_pass(images - centre, self.share))
        for step in range(self.steps):
            _, gradient = self._gradient(run, (centre + change).clamp(0, 1), step)
            ahead = low_pass(norm.steepest(gradient), self.share)
            ahead = ahead / norm.size(ahead).clamp_min(1e-12)
            change = self._scaled(run, change + self.step_length * ahead)
        return centre + change

    def _scaled(self, run: Ascent, change: Tensor) -> Tensor:
        return change * (self.eps / run.norm.size(change).clamp_min(1e-12)).clamp_max(1)


def low_pass(images: Tensor, share: float) -> Tensor:
    """Images [N, C, H, W] without all but a share of the lowest cosines along each side."""
    height, width = images.shape[-2:]
    return _projector(height, share, images) @ images @ _projector(width, share, images)


def _projector(side: int, share: float, like: Tensor) -> Tensor:
    """On the lowest cosines of a line of so many pixels, [side, side]."""
    count = max(1, round(share * side))
    places = torch.arange(side, dtype=torch.float64) + 0.5
    orders = torch.arange(count, dtype=torch.float64)
    cosines = torch.cos(math.pi / side * orders[:, None] * places) * math.sqrt(2 / side)
    cosines[0] /= math.sqrt(2)
    return (cosines.T @ cosines).to(like)
