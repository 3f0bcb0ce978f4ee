"""Attacks that never ask the model they are evaluated on."""

from dataclasses import dataclass

from torch import Tensor, nn

from ridefense.attacks.base import Attack, Case
from ridefense.attacks.norms import NormName
from ridefense.defended import Defended
from ridefense.describe import Plain, describe


@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    """Craft on another model, and hope.

    Attributes:
        source: the model that is attacked: the bare classifier, a `Defended` with another purifier
            (DAE, DIP, a differentiable `GaussianBlur`), another classifier.
        attack: how it is attacked; its `eps` and `norm` are the threat model.
    """

    source: nn.Module
    attack: Attack

    @property
    def name(self) -> str:
        of = self.source
        name = type(of).__name__
        if isinstance(of, Defended):
            name = getattr(of.purifier, "name", type(of.purifier).__name__)
        return f"{self.attack.name} transferred from {name}"

    @property
    def eps(self) -> float:
        return self.attack.eps

    @property
    def norm(self) -> NormName:
        return self.attack.norm

    def settings(self) -> Plain:
        return {"attack": self.attack.settings(), "source": _told(self.source)}

    def _run(self, case: Case) -> Tensor:
        return self.attack(
            self.source,
            case.images,
            case.labels,
            ids=case.ids,
            seed=case.seed,
            progress=case.progress,
        )


def _told(model: nn.Module) -> Plain:
    if not isinstance(model, Defended):
        return describe(model)
    return {part: describe(getattr(model, part)) for part in ("classifier", "purifier", "gradient")}
