"""RayS (Chen & Gu 2020): a search over the signs of a perturbation that sees classes alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ridefense.attacks.base import Asks, Attack, Problem, check_ball
from ridefense.attacks.losses import margin
from ridefense.attacks.norms import NormName
from ridefense.attacks.objective import EOT, Objective
from ridefense.errors import check_whole
from ridefense.images import cut_to_range
from ridefense.purifier import Purifier

_TOLERANCE = 1e-3
"""To which a radius is found, as a share of the largest one."""


@dataclass(frozen=True, kw_only=True)
class RayS(Attack):
    """Ray Searching (Chen & Gu 2020, algorithms 1 to 3), for a batch of images at once.

    The decision boundary is sought along a direction of signs, x + r·s. The signs of whole blocks
    of pixels are flipped, of all pixels first, then of ever smaller blocks. A flip is kept where
    the image is misclassified at the smallest radius known so far, which a binary search then
    lowers. An image is done where that radius is at most ε. It needs no gradient and no outputs but
    the class, so it works on decisions, votes, and saturated or rounded outputs.

    Of a randomised defence each query is the vote of five draws.

    Attributes:
        queries: of each image, at most.
        purifier_seed: that of the purifier, where the attacker knows it.
        batch: images times draws that the model is given at once.
    """

    asks: ClassVar[Asks] = "decisions"

    eps: float
    norm: NormName = "Linf"
    queries: int = 1000
    purifier_seed: int | None = None
    batch: int = 128

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        check_whole("queries", self.queries, 1)
        check_whole("batch", self.batch, 1)

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        return self.queries * (EOT if purifier.is_randomised else 1), 0

    def _run(self, problem: Problem) -> Tensor:
        objective = Objective(
            model=problem.model,
            labels=problem.labels,
            ids=problem.ids,
            seed=problem.seed,
            loss=margin,
            purifier_seed=self.purifier_seed,
            batch=self.batch,
        )
        search, total = _Search(self, problem, objective.judge), len(problem.images) * self.queries
        for block in _blocks(problem.images[0].numel()):
            rows = search.unfinished
            if not len(rows):
                break
            search.flip(rows, block)
            problem.progress(min(int(search.asked.sum()), total), total)
        return search.points(torch.arange(len(problem.images)), search.signs, self.eps)


def _blocks(pixels: int) -> Iterator[slice]:
    """What is flipped, without an end: nothing, then all, the halves, the quarters, … each pixel,
    and again."""
    yield slice(0, 0)
    while True:
        size = pixels
        yield slice(0, pixels)
        while size > 1:
            size = -(-size // 2)
            yield from (slice(start, start + size) for start in range(0, pixels, size))


class _Search:
    """What is known of N images."""

    def __init__(self, attack: RayS, problem: Problem, objective: Objective) -> None:
        images = problem.images
        self.attack, self.problem, self.objective = attack, problem, objective
        self.flat = images.flatten(1)
        pixels = self.flat.shape[1]
        # Length of a vector of signs: the radius is in the attack's norm.
        self.length = 1.0 if attack.norm == "Linf" else float(pixels) ** 0.5
        self.largest = self.length  # every pixel is then 0 or 1
        self.signs = torch.ones_like(self.flat)
        self.radius = torch.full((len(images),), torch.inf, device=images.device)
        self.asked = torch.zeros(len(images), dtype=torch.int64, device=images.device)

    @property
    def unfinished(self) -> Tensor:
        """Rows of the images that are still searched, int64."""
        open_ = (self.radius > self.attack.eps) & (self.asked < self.attack.queries)
        return open_.nonzero().flatten()

    def points(self, rows: Tensor, signs: Tensor, radius: Tensor | float) -> Tensor:
        """Images [M, C, H, W] at a radius along signs [M, pixels]."""
        images = self.problem.images[rows]
        far = torch.as_tensor(radius, device=images.device).to(images).view(-1, 1)
        moved = self.flat[rows] + far / self.length * signs
        return cut_to_range(moved.view_as(images))

    def fooled(self, rows: Tensor, signs: Tensor, radius: Tensor | float) -> Tensor:
        """Whether most draws misclassify the points, bool [M]; one query an image."""
        number = int(self.asked.max())
        points = self.points(rows, signs, radius)
        value = self.objective.of(rows).value(points, "ray", number)
        self.asked[rows] += 1
        known = self.radius[rows].clamp_max(2 * self.largest)
        ids = [self.problem.ids[row] for row in rows.tolist()]
        self.problem.trace.saw(ids, number, -known, value.wrong)
        return value.wrong > 0.5

    def flip(self, rows: Tensor, block: slice) -> None:
        """Try the signs with one block flipped; keep them where they are nearer the boundary."""
        signs = self.signs[rows]
        signs[:, block] *= -1
        reach = self.radius[rows].clamp_max(self.largest)
        nearer = self.fooled(rows, signs, reach)
        if nearer.any():
            self.lower(rows[nearer], signs[nearer], reach[nearer])

    def lower(self, rows: Tensor, signs: Tensor, reach: Tensor) -> None:
        """Find the boundary along signs that are known to cross it within `reach`."""
        self.signs[rows], self.radius[rows] = signs, reach
        inside = self.fooled(rows, signs, self.attack.eps)
        self.radius[rows[inside]] = self.attack.eps
        rows, signs, high = rows[~inside], signs[~inside], reach[~inside]
        low = torch.full_like(high, self.attack.eps)
        while len(rows) and bool((high - low > _TOLERANCE * self.largest).any()):
            middle = (low + high) / 2
            crossed = self.fooled(rows, signs, middle)
            high, low = torch.where(crossed, middle, high), torch.where(crossed, low, middle)
        self.radius[rows] = high
