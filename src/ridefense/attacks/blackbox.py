"""Attacks that ask for losses alone: the gradient is estimated from finite differences."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ridefense.attacks.answers import Value
from ridefense.attacks.base import Asks
from ridefense.attacks.descent import PGD, Ascent
from ridefense.attacks.diagnostics import Step
from ridefense.attacks.losses import Loss, margin
from ridefense.errors import check_positive, check_whole
from ridefense.noise import Keys, Stream, derive
from ridefense.purifier import Purifier


@dataclass(frozen=True, kw_only=True)
class FiniteDifferences(PGD):
    """PGD along a gradient estimated by (L(x + δv) - L(x - δv)) / 2δ · v, averaged over random v.

    It needs no derivative of the purifier. In a step all queries of an image see the same draw of
    its randomness, which makes the difference that of the pixels alone: a help that one who only
    queries the defender does not have, and one who knows the purifier has. Query points are cut to
    [0, 1]. The loss is the margin, which unlike the cross-entropy does not round to nothing, and
    the steps are PGD's, where Uesato et al. take Adam's.

    Attributes:
        directions: v in each step; twice as many queries, times `eot`.
        delta: δ, in pixels of [0, 1].
    """

    asks: ClassVar[Asks] = "queries"

    directions: int = 64
    delta: float = 0.01
    loss: Loss = margin

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("directions", self.directions, 1)
        check_positive("delta", self.delta)

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        return 2 * self.directions * self.runs * self.steps * self.eot, 0

    @abstractmethod
    def _directions(self, keys: Keys, step: int, sample: int, pixels: int) -> Tensor:
        """One v for each image, [N, 1, pixels]."""

    def _gradient(self, run: Ascent, images: Tensor, step: int) -> tuple[Value, Tensor]:
        count, ids = len(images), run.objective.ids
        keys = Keys.of(derive(run.problem.seed, "directions", run.index), ids, count, images.device)
        pixels = images[0].numel()
        v = torch.stack(
            [self._directions(keys, step, sample, pixels) for sample in range(self.directions)]
        )
        v = v.to(images.dtype).view(-1, *images.shape)  # [directions, N, C, H, W]
        points = torch.cat((images + self.delta * v, images - self.delta * v)).clamp(0, 1)
        rows = torch.arange(count, device=images.device).repeat(2 * self.directions)
        seen = run.objective.of(rows).value(points.flatten(0, 1), run.index, step)
        ahead, behind = seen.loss.view(2, self.directions, count, 1, 1, 1)
        slopes = ((ahead - behind) / (2 * self.delta)).nan_to_num(0, 0, 0)
        flat = (slopes == 0).flatten(2).all(dim=2).all(dim=0)
        no = torch.zeros_like(flat)
        run.problem.trace.asked(ids, Step(flat, no, no, no, no, no))
        value = Value(*(x.view(-1, count).nanmean(dim=0) for x in (seen.loss, seen.wrong)))
        run.saw(images, step, value)
        return value, (slopes * v).mean(dim=0)


@dataclass(frozen=True, kw_only=True)
class SPSA(FiniteDifferences):
    """Simultaneous perturbation (Spall 1992; Uesato et al. 2018): v is ±1 in every pixel."""

    def _directions(self, keys: Keys, step: int, sample: int, pixels: int) -> Tensor:
        draw = keys.uniform(Stream.ATTACK, [step], pixels, sample=sample)
        return torch.where(draw < 0.5, -1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class NES(FiniteDifferences):
    """Natural evolution strategies (Ilyas et al. 2018): v is normal, both signs of each."""

    delta: float = 0.001

    def _directions(self, keys: Keys, step: int, sample: int, pixels: int) -> Tensor:
        return keys.normal(Stream.ATTACK, [step], pixels, sample=sample)
