"""Attacks that look for the nearest misclassified image: DeepFool, and Carlini & Wagner's.

Both are foolbox's. The images of a batch are searched together; no number of one depends on
another.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ridefense.attacks.answers import column
from ridefense.attacks.base import Asks, Attack, Problem, check_ball
from ridefense.attacks.bridges import HeldDraws, told
from ridefense.attacks.losses import check_labels
from ridefense.attacks.norms import NORMS, NormName
from ridefense.attacks.objective import EOT
from ridefense.errors import check_not_negative, check_positive, check_whole
from ridefense.extras import package
from ridefense.images import cut_to_range
from ridefense.models import evaluating, is_randomised
from ridefense.noise import Id
from ridefense.purifier import Purifier


class MinimalNorm(Attack):
    """Looks for the nearest misclassified image, at whatever distance.

    `nearest` tells the distances. A call keeps to the ball, as every attack's does: an image whose
    nearest is further than eps has survived, and its nearest comes back clipped to the ball. So
    one evaluation at a large eps gives the survivors of every smaller one, from the distances in
    its rows.

    Of a randomised defence the mean probabilities of several draws are attacked, which are held
    fixed during the search, since it follows a boundary.
    """

    asks: ClassVar[Asks] = "gradients"

    draws: int
    batch: int
    purifier_seed: int | None

    def nearest(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """The nearest misclassified images [N, C, H, W] and how far they are, [N].

        The arguments are those of a call. The distance is in the attack's norm; infinite, with the
        image as it was, where none was found, and 0 where the image is misclassified as it is.

        Raises:
            InputError: as a call.
        """
        problem = Problem.of(model, images, labels, ids, seed, None)
        with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
            return self._nearest(problem)

    def _run(self, problem: Problem) -> Tensor:
        found, _ = self._nearest(problem)
        return found

    def _nearest(self, problem: Problem) -> tuple[Tensor, Tensor]:
        draws = 1
        if self.purifier_seed is None and is_randomised(problem.model):
            draws = self.draws
        count, found, distances = len(problem.images), [], []
        for rows in torch.split(torch.arange(count), max(1, self.batch // draws)):
            images, labels = problem.images[rows], problem.labels[rows]
            ids = [problem.ids[row] for row in rows.tolist()]
            held = HeldDraws(problem.model, ids, problem.seed, draws, self.purifier_seed, labels)
            was = _misclassified(held, images, labels)
            with told(self.name, images):
                point = self._search(held, images, labels).detach().to(images)
            point = cut_to_range(point.where(point.isfinite(), images))
            there = _misclassified(held, point, labels) & ~was
            point = point.where(column(there), images)
            size = NORMS[self.norm].size(point.double() - images.double()).flatten()
            found.append(point)
            distances.append(size.where(there | was, torch.inf))
            problem.progress(int(rows[-1]) + 1, count)
        return torch.cat(found), torch.cat(distances)

    @abstractmethod
    def _search(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The library's nearest images [N, C, H, W]; anything where it finds none."""


@dataclass(frozen=True, kw_only=True)
class DeepFool(MinimalNorm):
    """DeepFool (Moosavi-Dezfooli et al. 2016) by foolbox: steps to the nearest linearised boundary.

    Attributes:
        eps: radius of the ball, in pixels of [0, 1].
        norm: "Linf" or "L2".
        steps: at most.
        candidates: likeliest classes whose boundaries are looked at in each step.
        overshoot: by what share of the perturbation a step goes beyond the boundary.
        draws: of a randomised defence whose mean probabilities are attacked.
        purifier_seed: that of the purifier, where the attacker knows it.
        batch: images times draws that the model is given at once.
    """

    eps: float
    norm: NormName = "Linf"
    steps: int = 50
    candidates: int = 10
    overshoot: float = 0.02
    draws: int = EOT
    purifier_seed: int | None = None
    batch: int = 128

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        for name, least in {"steps": 1, "candidates": 2, "draws": 1, "batch": 1}.items():
            check_whole(name, getattr(self, name), least)
        check_not_negative("overshoot", self.overshoot)

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        # Three steps suffice as a rule; each has a gradient for every other candidate.
        draws = self.draws if purifier.is_randomised else 1
        return 0, 3 * (self.candidates - 1) * draws

    def _search(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        attacks = package("foolbox.attacks", "foolbox")
        kind = {"Linf": attacks.LinfDeepFoolAttack, "L2": attacks.L2DeepFoolAttack}[self.norm]
        attack = kind(steps=self.steps, candidates=self.candidates, overshoot=self.overshoot)
        return _run(attack, model, images, labels)


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(MinimalNorm):
    """Carlini & Wagner's ℓ2 attack (2017) by foolbox: Adam on distance plus c times the margin,
    with a binary search for the smallest c that suffices.

    Attributes:
        eps: ℓ2 radius of the ball, in pixels of [0, 1].
        steps: of Adam for each c. The paper has 10,000.
        searches: values of c.
        step_size: of Adam.
        confidence: by how much the logit of a wrong class has to exceed that of the true class.
        initial: the first c.
        draws, purifier_seed, batch: as of `DeepFool`.
    """

    eps: float
    steps: int = 1000
    searches: int = 9
    step_size: float = 0.01
    confidence: float = 0.0
    initial: float = 0.001
    draws: int = EOT
    purifier_seed: int | None = None
    batch: int = 128

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        for name in ("steps", "searches", "draws", "batch"):
            check_whole(name, getattr(self, name), 1)
        check_positive("step_size", self.step_size)
        check_positive("initial", self.initial)
        check_not_negative("confidence", self.confidence)

    @property
    def norm(self) -> NormName:
        return "L2"

    def within(self, norm: NormName, eps: float) -> "CarliniWagner | None":
        return replace(self, eps=eps) if norm == self.norm else None

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        draws = self.draws if purifier.is_randomised else 1
        return 0, self.searches * self.steps * draws

    def _search(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        # Without `abort_early`, which would stop all images when their sum makes no progress.
        attack = package("foolbox.attacks", "foolbox").L2CarliniWagnerAttack(
            binary_search_steps=self.searches,
            steps=self.steps,
            stepsize=self.step_size,
            confidence=self.confidence,
            initial_const=self.initial,
            abort_early=False,
        )
        return _run(attack, model, images, labels)


@torch.no_grad()
def _misclassified(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Which images a model gives another class, bool [N]; not those without finite logits."""
    logits: Tensor = model(images)
    check_labels(labels, logits.shape[1])
    return logits.isfinite().all(dim=1) & (logits.argmax(dim=1) != labels)


def _run(attack: Any, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    foolbox = package("foolbox", "foolbox")
    bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
    found: Tensor = attack.run(bounded, images, foolbox.criteria.Misclassification(labels))
    return found
