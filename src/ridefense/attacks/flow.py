"""An attack that moves pixels instead of changing them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ridefense.attacks.answers import Value, column
from ridefense.attacks.base import Asks, Attack, Problem
from ridefense.attacks.losses import Loss, margin
from ridefense.attacks.norms import NormName
from ridefense.attacks.objective import Objective
from ridefense.errors import check_positive, check_whole
from ridefense.purifier import Purifier


@dataclass(frozen=True, kw_only=True)
class Flow(Attack):
    """A smooth flow that moves every pixel a little, after stAdv (Xiao et al., "Spatially
    Transformed Adversarial Examples", ICLR 2018).

    stAdv weighs the flow's roughness against the loss. Here the displacement is bounded, and every
    step is smoothed, so that neighbours move together. The result is the worst point seen.

    Attributes:
        eps: the longest displacement, in pixels; the norm is called "Flow".
        steps: each of at most 2.5 eps / steps.
        loss: what is maximised, see `losses.py`.
        eot: draws of the defence's randomness averaged in each step.
        smooth: standard deviation of the Gaussian that smooths each step, in pixels.
        purifier_seed: that of the purifier, where the attacker knows it.
        batch: images times draws that the model is given at once.
    """

    asks: ClassVar[Asks] = "gradients"

    eps: float
    steps: int = 20
    loss: Loss = margin
    eot: int = 1
    smooth: float = 2.0
    purifier_seed: int | None = None
    batch: int = 128

    def __post_init__(self) -> None:
        check_positive("smooth", self.smooth)
        for name in ("steps", "eot", "batch"):
            check_whole(name, getattr(self, name), 1)
        if self.eps:
            check_positive("eps", self.eps)

    @property
    def norm(self) -> NormName:
        return "Flow"

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        return 0, (self.steps + 1) * self.eot

    def _bounded(self, found: Tensor, images: Tensor) -> Tensor:
        return found.clamp(0, 1)

    def _run(self, problem: Problem) -> Tensor:
        x, ids = problem.images, problem.ids
        objective = Objective(
            model=problem.model,
            labels=problem.labels,
            ids=ids,
            seed=problem.seed,
            loss=self.loss,
            eot=self.eot,
            purifier_seed=self.purifier_seed,
            batch=self.batch,
            trace=problem.trace,
        )
        flow = x.new_zeros(len(x), 2, *x.shape[2:])
        worst, found = x, Value.lowest(x)
        for step in range(self.steps + 1):
            moving = flow.requires_grad_()
            moved = warped(x, moving)
            value, gradient = objective.gradient(moved.detach(), 0, step)
            problem.trace.saw(ids, step, value.loss, value.wrong)
            above = value.above(found)
            worst, found = (
                torch.where(column(above), moved.detach(), worst),
                value.where(above, found),
            )
            (slope,) = torch.autograd.grad(moved, moving, gradient)
            ahead = _smoothed(slope, self.smooth)
            ahead = ahead / _lengths(ahead).amax(dim=(2, 3), keepdim=True).clamp_min(1e-30)
            flow = flow.detach() + 2.5 * self.eps / self.steps * ahead
            flow = flow * (self.eps / _lengths(flow).clamp_min(1e-12)).clamp_max(1)
            problem.progress(len(x) * step, len(x) * self.steps)
        return worst


def warped(images: Tensor, flow: Tensor) -> Tensor:
    """Images [N, C, H, W] whose pixel at (y, x) is that at (y, x) + flow, interpolated.

    Args:
        images: in [0, 1].
        flow: [N, 2, H, W], displacements along x and along y in pixels; at 0 the images come back
            exactly. Beyond the border its pixels are repeated.
    """
    height, width = images.shape[2:]
    ys = torch.linspace(-1, 1, height, dtype=images.dtype, device=images.device)
    xs = torch.linspace(-1, 1, width, dtype=images.dtype, device=images.device)
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1).expand(
        len(images), -1, -1, -1
    )
    scale = grid.new_tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)])

    def at(places: Tensor) -> Tensor:
        return F.grid_sample(images, places, padding_mode="border", align_corners=True)

    # The difference is free of the rounding of places.
    moved = at(grid + flow.permute(0, 2, 3, 1) * scale)
    return (images + (moved - at(grid))).clamp(0, 1)


def _lengths(flow: Tensor) -> Tensor:
    """Of displacements [N, 2, H, W], [N, 1, H, W]."""
    return flow.square().sum(dim=1, keepdim=True).sqrt()


def _smoothed(flow: Tensor, sigma: float) -> Tensor:
    """A flow blurred by a Gaussian, with no flow beyond the border."""
    reach = max(1, round(3 * sigma))
    places = torch.arange(-reach, reach + 1).to(flow)
    line = torch.exp(-0.5 * (places / sigma) ** 2)
    line = (line / line.sum()).expand(2, 1, -1)
    blurred = F.conv2d(flow, line[:, :, None], padding=(0, reach), groups=2)
    return F.conv2d(blurred, line[..., None], padding=(reach, 0), groups=2)
