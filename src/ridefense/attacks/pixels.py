"""The one-pixel attack: one pixel of any colour, or a few, found by differential evolution."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ridefense.attacks.base import Asks, Attack, Problem
from ridefense.attacks.losses import margin
from ridefense.attacks.norms import NormName
from ridefense.attacks.objective import EOT, Objective
from ridefense.errors import check_whole
from ridefense.models import is_randomised
from ridefense.noise import derive
from ridefense.purifier import Purifier

_Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True)
class OnePixel(Attack):
    """Su, Vargas & Sakurai (2019): differential evolution, by SciPy, of a pixel's place and colour.

    It asks for logits alone, and raises the margin of the wrong classes, where the paper lowers the
    probability of the true one, which rounds to 1. Colours are those of 8 bits, so that an image
    file keeps the result. The search for an image ends when it is misclassified. An image that
    withstands comes back with the pixel that raised the margin most.

    Of a randomised defence each query is the mean of five draws, and no search ends early.

    Attributes:
        eps: pixels that are changed, at most: 1, 3 or 5 in the paper. The norm is called "L0".
        population: candidates in each generation; 400 in the paper.
        generations: at most, after the first; 100 in the paper.
        purifier_seed: that of the purifier, where the attacker knows it.
        batch: candidates times draws that the model is given at once.
    """

    asks: ClassVar[Asks] = "queries"

    eps: int = 1
    population: int = 400
    generations: int = 100
    purifier_seed: int | None = None
    batch: int = 128

    def __post_init__(self) -> None:
        # Differential evolution makes a candidate of others, for which it needs five.
        least = {"eps": 1, "population": 5, "generations": 1, "batch": 1}
        for name, low in least.items():
            check_whole(name, getattr(self, name), low)

    @property
    def norm(self) -> NormName:
        return "L0"

    def within(self, norm: NormName, eps: float) -> "OnePixel | None":
        return replace(self, eps=int(eps)) if norm == self.norm else None

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        draws = EOT if purifier.is_randomised else 1
        return self.population * (1 + self.generations) * draws, 0

    def _bounded(self, found: Tensor, images: Tensor) -> Tensor:
        return found

    def _run(self, problem: Problem) -> Tensor:
        objective = Objective(
            model=problem.model,
            labels=problem.labels,
            ids=problem.ids,
            seed=problem.seed,
            loss=margin,
            purifier_seed=self.purifier_seed,
            batch=self.batch,
        ).judge
        settled = self.purifier_seed is not None or not is_randomised(problem.model)
        found = []
        for row in range(len(problem.ids)):
            search = _Search(self, problem, objective, row)
            found.append(search.best if settled and search.fooled else search.evolved(settled))
            problem.progress(row + 1, len(problem.ids))
        return torch.stack(found)


class _Search:
    """The best point seen for one image, at first the image itself.

    Args:
        row: of the image in the problem.
    """

    def __init__(self, attack: OnePixel, problem: Problem, objective: Objective, row: int) -> None:
        self.attack, self.problem, self.objective, self.row = attack, problem, objective, row
        self.image = problem.images[row]
        self.highest, self.asked = -torch.inf, 0
        self._margins(self.image[None])

    @property
    def fooled(self) -> bool:
        """Whether the best point is misclassified: the margin of its wrong classes is above 0."""
        return self.highest > 0

    def evolved(self, settled: bool) -> Tensor:
        """The best point [C, H, W] of an evolution, which ends early where one look is enough."""
        from scipy.optimize import differential_evolution

        attack, id_ = self.attack, self.problem.ids[self.row]
        random = np.random.default_rng(derive(self.problem.seed, "pixel", id_))
        # Of each pixel its row, its column and its colours, all in [0, 1].
        places = random.random((attack.population, attack.eps, 2))
        colours = random.normal(0.5, 0.5, (attack.population, attack.eps, len(self.image)))
        first = np.concatenate((places, colours), axis=2).reshape(attack.population, -1)
        self.highest = -torch.inf  # any changed pixel rather than none

        def energies(candidates: _Array) -> _Array:
            points = _changed(self.image, torch.from_numpy(candidates.T), attack.eps)
            return -self._margins(points).numpy()

        def done(best: _Array, convergence: float = 0) -> bool:
            return settled and self.fooled

        differential_evolution(
            energies,
            [(0, 1)] * first.shape[1],
            init=first.clip(0, 1),
            maxiter=attack.generations,
            mutation=0.5,
            recombination=1.0,
            tol=0,
            polish=False,
            vectorized=True,
            updating="deferred",
            callback=done,
            seed=random,
        )
        return self.best

    def _margins(self, points: Tensor) -> Tensor:
        """How far the best wrong logit of each point [M, C, H, W] exceeds the true one, [M]."""
        rows = torch.full((len(points),), self.row, device=points.device)
        value = self.objective.of(rows).value(points, "generation", self.asked)
        margins = value.loss.double().nan_to_num(-torch.inf).cpu()
        worst = int(margins.argmax())
        if not self.asked or margins[worst] > self.highest:
            self.best, self.highest = points[worst], float(margins[worst])
        id_, seen = self.problem.ids[self.row], slice(worst, worst + 1)
        self.problem.trace.saw([id_], self.asked, value.loss[seen], value.wrong[seen])
        self.asked += 1
        return margins


def _changed(image: Tensor, candidates: Tensor, pixels: int) -> Tensor:
    """The image [C, H, W] with the pixels that each candidate names, [M, C, H, W].

    Args:
        candidates: [M, pixels·(2 + C)] in [0, 1].
    """
    count, (channels, height, width) = len(candidates), image.shape
    genes = candidates.to(image.device).view(count, pixels, 2 + channels)
    y = (genes[..., 0] * height).long().clamp_max(height - 1)
    x = (genes[..., 1] * width).long().clamp_max(width - 1)
    colours = ((genes[..., 2:] * 255).round() / 255).to(image.dtype)
    points = image.expand(count, -1, -1, -1).clone()
    each = torch.arange(count, device=image.device)
    for pixel in range(pixels):
        points[each, :, y[:, pixel], x[:, pixel]] = colours[:, pixel]
    return points
