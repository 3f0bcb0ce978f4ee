"""Images of gray-box attacks, shared between evaluations of one classifier on the same images."""

from collections.abc import Callable

from ridefense.attacks.base import AttackOutcome


class GrayBoxImages:
    """What gray-box attacks found, to be found once for many defences.

    A gray-box attack does not know the purifier, so its images are the same for all purifiers. They
    are kept in this process, by everything that identifies them: see `Evaluation.gray_box_key`.
    Rows that use an image found before have no time for it.
    """

    def __reduce__(self) -> tuple[type["GrayBoxImages"], tuple[()]]:
        return GrayBoxImages, ()  # another process finds its own

    def __init__(self) -> None:
        self._found: dict[str, AttackOutcome] = {}

    def found(self, key: str, attack: Callable[[], AttackOutcome]) -> AttackOutcome:
        """What was found under this key; what `attack` finds if there is nothing."""
        if key not in self._found:
            self._found[key] = attack()
        return self._found[key]
