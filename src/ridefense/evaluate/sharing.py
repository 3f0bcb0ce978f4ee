"""Gray-box attacks, run once for many defences."""

from collections.abc import Sequence

from torch import Tensor, nn

from ridefense.attacks import Attack, AttackOutcome
from ridefense.attacks.base import Problem
from ridefense.attacks.norms import NormName
from ridefense.describe import Plain
from ridefense.engines import Progress
from ridefense.noise import Id


class Once(Attack):
    """An attack that keeps what it finds: in a gray box the model is always the bare classifier.

    It has the settings of the attack itself, and so the same label. What it keeps is of one
    classifier and one data set, and lives in this process; rows of later defences have no time.
    """

    asks = "nothing"

    def __init__(self, attack: Attack) -> None:
        self.attack = attack
        self.found: dict[tuple[int, tuple[Id, ...]], AttackOutcome] = {}

    def __reduce__(self) -> tuple[type["Once"], tuple[Attack]]:
        return Once, (self.attack,)  # another process finds its own

    @property
    def name(self) -> str:
        return self.attack.name

    @property
    def norm(self) -> NormName:
        return self.attack.norm

    @property
    def eps(self) -> float:
        return self.attack.eps

    def settings(self) -> Plain:
        return self.attack.settings()

    def _run(self, problem: Problem) -> Tensor:
        return self.attack._run(problem)

    def run(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> AttackOutcome:
        key = seed, tuple(range(len(images)) if ids is None else ids)
        if key not in self.found:
            self.found[key] = self.attack.run(
                model, images, labels, ids=ids, seed=seed, progress=progress
            )
        return self.found[key]
