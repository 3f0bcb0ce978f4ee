"""Attacks that never ask the model they are evaluated on."""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from ridefense.attacks.base import Asks, Attack, Cost, Problem
from ridefense.attacks.norms import NormName
from ridefense.defended import Defended
from ridefense.describe import Plain, describe, describe_by_weights
from ridefense.gradients import GradientMode
from ridefense.purifier import Purifier
from ridefense.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    """Craft on another model, and hope.

    Attributes:
        source: the model that is attacked: the bare classifier, a `Defended` with another purifier
            (DAE, DIP, a differentiable `GaussianBlur`), another classifier.
        attack: how it is attacked; its `eps` and `norm` are the threat model.
    """

    asks: ClassVar[Asks] = "nothing"

    source: nn.Module
    attack: Attack

    @property
    def name(self) -> str:
        of = self.source
        name = type(of).__name__
        if isinstance(of, Defended):
            name = of.purifier.name
        return f"{self.attack.name} transferred from {name}"

    @property
    def eps(self) -> float:
        return self.attack.eps

    @property
    def norm(self) -> NormName:
        return self.attack.norm

    def within(self, norm: NormName, eps: float) -> "Transfer | None":
        attack = self.attack.within(norm, eps)
        return None if attack is None else replace(self, attack=attack)

    def suited_to(self, classes: int) -> "Transfer | None":
        attack = self.attack.suited_to(classes)
        return None if attack is None else replace(self, attack=attack)

    def cost(self, purifier: Purifier, gradient: GradientMode | None) -> Cost:
        """That of the attack on its source, in runs of the purifier that is evaluated."""
        source = self.source
        if not isinstance(source, Defended):
            return self.attack.cost(purifier, None)
        there = self.attack.cost(source.purifier, source.gradient)
        runs = 0.0  # a filter's, which is nothing beside a fit
        if isinstance(source.purifier, Settings) and isinstance(purifier, Settings):
            runs = there.purifications * source.purifier.total_steps / purifier.total_steps
        return replace(there, purifications=round(runs))

    def described(self) -> Plain:
        """See `ridefense.describe`: a source that is no `Defended` is known by its weights."""
        known = isinstance(self.source, Defended)
        source = describe(self.source) if known else describe_by_weights(self.source)
        return {"type": "Transfer", "source": source, "attack": describe(self.attack)}

    def _run(self, problem: Problem) -> Tensor:
        return self.attack(
            self.source,
            problem.images,
            problem.labels,
            ids=problem.ids,
            seed=problem.seed,
            progress=problem.progress,
        )
