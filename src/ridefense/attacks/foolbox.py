"""Any attack of foolbox."""

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ridefense.attacks.base import Asks, Problem, check_ball
from ridefense.attacks.bridges import Bridge, Queried
from ridefense.attacks.norms import NormName
from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.extras import package
from ridefense.purifier import Purifier

_BY_DECISIONS = (
    *("additive_noise", "blended_noise", "binarization", "blur", "boundary_attack", "contrast"),
    *("dataset_attack", "hop_skip_jump", "inversion", "pointwise", "saltandpepper"),
)
"""Modules of foolbox whose attacks see classes alone."""


@dataclass(frozen=True, kw_only=True)
class Foolbox(Bridge):
    """An attack of foolbox, as `Foolbox(attack=HopSkipJumpAttack(constraint="linf"), eps=0.1)`.

    Hard-label attacks walk along a boundary, which has to stand still: all queries of an image see
    one draw of the purifier's randomness. What is found is clipped to eps, whether or not it
    suffices; where no start is found the image comes back clean.

    Attributes:
        attack: foolbox's object; its distance is the norm, ℓ∞ or ℓ2.
        purifier_seed: that of the draw, where the attacker knows it.
    """

    attack: Any
    eps: float
    purifier_seed: int | None = None
    redraws = False

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)

    @property
    def asks(self) -> Asks:  # type: ignore[override]  # of the library's attack, not of the class
        module = type(self.attack).__module__.rpartition(".")[2]
        return "decisions" if module in _BY_DECISIONS else "gradients"

    @property
    def name(self) -> str:
        return type(self.attack).__name__

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        steps = getattr(self.attack, "steps", 1)
        return (75 * steps, 0) if self.asks == "decisions" else (0, steps)

    @property
    def norm(self) -> NormName:
        order = getattr(getattr(self.attack, "distance", None), "p", None)
        norms: dict[float, NormName] = {2: "L2", float("inf"): "Linf"}
        if order not in norms:
            raise InputError(f"{self.attack} has no ℓ∞ or ℓ2 distance; use an attack that has")
        return norms[order]

    def within(self, norm: NormName, eps: float) -> "Foolbox | None":
        """Of HopSkipJump alone, whose norm is a setting."""
        if norm == self.norm:
            return replace(self, eps=eps)
        if self.name != "HopSkipJumpAttack":
            return None
        hop = copy(self.attack)
        foolbox = package("foolbox", "foolbox")
        hop.constraint = {"L2": "l2", "Linf": "linf"}[norm]
        hop.distance = getattr(foolbox.distances, hop.constraint)
        return replace(self, attack=hop, eps=eps)

    def described(self) -> Plain:
        """See `ridefense.describe`: foolbox's attack is known by how it prints itself."""
        own = {"attack": repr(self.attack), "eps": self.eps, "purifier_seed": self.purifier_seed}
        return {"type": "Foolbox", **own}

    def _one(
        self, model: Queried, image: Tensor, label: Tensor, id_: int, seed: int, problem: Problem
    ) -> Tensor:
        foolbox = package("foolbox", "foolbox")
        bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device=image.device)
        clipped: Tensor
        try:
            _, clipped, _ = self.attack(bounded, image, label, epsilons=self.eps)
        except ValueError as error:
            if "init_attack failed" not in str(error):
                raise
            return image
        return clipped
