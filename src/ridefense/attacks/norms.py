"""The balls that an attacker stays in: where to start, where to step, how to come back."""

import math
from typing import Literal, Protocol

import torch
from torch import Tensor

from ridefense.noise import Keys, Stream

NormName = Literal["Linf", "L2", "L0", "Flow"]
"""What bounds an attack: a norm of the perturbation ("L0" counts changed pixels), or for "Flow" the
displacement in pixels."""


class Norm(Protocol):
    """A norm of perturbations [N, C, H, W]."""

    def size(self, perturbation: Tensor) -> Tensor:
        """The norm of each, [N, 1, 1, 1]."""

    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of norm 1 along which a function of this gradient rises fastest."""

    def clip(self, perturbation: Tensor, eps: float) -> Tensor:
        """The nearest perturbation (in ℓ2) whose norm is at most eps."""

    def uniform(self, keys: Keys, step: int, shape: torch.Size) -> Tensor:
        """A perturbation drawn uniformly from the ball of radius 1, float64."""


class Linf:
    """Every value by at most ε."""

    def size(self, perturbation: Tensor) -> Tensor:
        return perturbation.abs().amax(dim=(1, 2, 3), keepdim=True)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def clip(self, perturbation: Tensor, eps: float) -> Tensor:
        return perturbation.clamp(-eps, eps)

    def uniform(self, keys: Keys, step: int, shape: torch.Size) -> Tensor:
        draw = keys.uniform(Stream.ATTACK, [step], math.prod(shape[1:]))
        return (2 * draw - 1).view(shape)


class L2:
    """The Euclidean length of the whole image's change by at most ε."""

    def size(self, perturbation: Tensor) -> Tensor:
        return perturbation.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()

    def steepest(self, gradient: Tensor) -> Tensor:
        # In float64, where the squares of a nearly masked gradient do not vanish.
        wide = gradient.double()
        return (wide / self.size(wide).clamp_min(1e-150)).to(gradient.dtype)

    def clip(self, perturbation: Tensor, eps: float) -> Tensor:
        return perturbation * (eps / self.size(perturbation).clamp_min(1e-12)).clamp_max(1)

    def uniform(self, keys: Keys, step: int, shape: torch.Size) -> Tensor:
        # n of n + 2 coordinates of a uniform point on a sphere are uniform in the n-ball
        # (Voelker et al. 2017).
        n = math.prod(shape[1:])
        draw = keys.normal(Stream.ATTACK, [step], n + 2)[:, 0]
        sphere: Tensor = draw / draw.norm(dim=1, keepdim=True)
        return sphere[:, :n].reshape(shape)


NORMS: dict[NormName, Norm] = {"Linf": Linf(), "L2": L2()}


def project(norm: Norm, images: Tensor, centre: Tensor, eps: float) -> Tensor:
    """Images [N, C, H, W] back into the ball around `centre` and into [0, 1].

    Computed in float64 and rounded towards the centre: for float32 and coarser images the norm of
    `result.double() - centre.double()` is at most eps to the rounding of float64, about 1e-16, and
    nothing of it is owed to the rounding of pixels.
    """
    middle = centre.double()
    perturbation = norm.clip(images.double() - middle, eps)
    exact = (middle + perturbation).clamp(0, 1)
    rounded = exact.to(centre.dtype)
    beyond = (rounded.double() - middle).abs() > (exact - middle).abs()
    return torch.where(beyond, torch.nextafter(rounded, centre), rounded)
