"""Gray-box attacks, run once for many defences."""

from typing import Any

from torch import Tensor

from ridefense.attacks import Attack


class Once:
    """An attack that keeps what it finds: in a gray box the model is always the bare classifier.

    It stands for the attack itself, under the same label. What it keeps is of one classifier and
    one data set, and lives in this process; rows of later defences have no time for it.
    """

    def __init__(self, attack: Attack) -> None:
        self.attack = attack
        self.found: dict[tuple[int, tuple[int, ...]], Tensor] = {}

    def __reduce__(self) -> tuple[type["Once"], tuple[Attack]]:
        return Once, (self.attack,)  # another process finds its own

    def __getattr__(self, name: str) -> Any:
        return getattr(self.attack, name)

    def __call__(self, model, images, labels, *, ids, seed, progress) -> Tensor:
        key = seed, tuple(ids)
        if key not in self.found:
            keys = {"ids": ids, "seed": seed, "progress": progress}
            self.found[key] = self.attack(model, images, labels, **keys)
        return self.found[key]
