"""What others would have reported: the attacks of the field, as they are usually run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ridefense.attacks import PGD, AutoAttack
from ridefense.attacks.base import Attack, Problem, check_ball
from ridefense.attacks.bridges import Queried
from ridefense.attacks.norms import NORMS, NormName, project
from ridefense.evaluate import Threat
from ridefense.extras import package
from ridefense.gradients import GradientMode, Identity
from ridefense.models import views
from ridefense.noise import Id, derive
from ridefense.purifier import Purifier, purified_by


@dataclass(frozen=True, kw_only=True)
class TextbookPGD(Attack):
    """PGD (Madry et al. 2018) in ten lines: the cross-entropy's own gradient, one draw, no repairs.

    Attributes:
        steps: of ε/4 each, from a random start.
    """

    eps: float
    norm: NormName = "Linf"
    steps: int = 40

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)

    def _run(self, problem: Problem) -> Tensor:
        norm, clean = NORMS[self.norm], problem.images
        generator = torch.Generator().manual_seed(derive(problem.seed, "textbook") % 2**63)
        noise = (2 * torch.rand(clean.shape, generator=generator) - 1).to(clean)
        images = project(norm, clean + self.eps * noise, clean, self.eps)
        for step in range(self.steps):
            x = images.detach().requires_grad_()
            logits = views(problem.model, x, problem.ids, derive(problem.seed, step))[-1]
            loss = F.cross_entropy(logits, problem.labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x)
            images = project(norm, x + self.eps / 4 * norm.steepest(gradient), clean, self.eps)
        return images


@dataclass(frozen=True, kw_only=True)
class BatchedAutoAttack(AutoAttack):
    """AutoAttack on all images at once, as it is usually run; they share its random numbers."""

    def _run(self, problem: Problem) -> Tensor:
        return self._attacked(problem, problem.images, problem.labels, problem.ids[0])

    def _one(
        self, model: Queried, image: Tensor, label: Tensor, id_: int, seed: int, problem: Problem
    ) -> Tensor:
        library = package("pyautoattack", "autoattack")
        attack = library.AutoAttack(
            model,
            eps=self.eps,
            norm=self.norm,
            device=image.device,
            seed=seed,
            version=self.version,
        )
        attack.logger.disabled = True
        found: Tensor = attack.run_standard_evaluation(image, label)[0]
        return found


@dataclass(frozen=True)
class AsItIs(GradientMode):
    """PyTorch's derivative of a purifier, whatever it says of it; there may be none."""

    def views(
        self,
        purify: Purifier,
        images: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
    ) -> Tensor:
        return purified_by(purify, images, ids, seed)[None]


def pgd(eps: float) -> Threat:
    """PGD through PyTorch's derivative of the defence."""
    return Threat(attack=TextbookPGD(eps=eps), gradient=AsItIs())


def bpda(eps: float) -> Threat:
    """The paper's attack: ten steps, the identity for the purifier's derivative."""
    return Threat(attack=PGD(eps=eps), gradient=Identity())


def autoattack(eps: float, purifier: Purifier) -> Threat:
    """AutoAttack through PyTorch's derivative, in the version that suits what a defence says."""
    version: Literal["rand", "standard"] = "rand" if purifier.is_randomised else "standard"
    return Threat(attack=BatchedAutoAttack(eps=eps, version=version), gradient=AsItIs())
