"""A recorded attack as values: what it is, what it knew, what it was allowed."""

from dataclasses import dataclass
from typing import Any, Self, get_args

from ridefense.attacks.base import Asks
from ridefense.describe import Plain
from ridefense.errors import InputError

Ball = tuple[str, float]
"""A norm and a radius ε, pixels in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class RecordedThreat:
    """An attack and its threat model, as a run folder declares them.

    Attributes:
        name: as the field calls it, with the gradient mode: "BPDA", "APGD FrozenWeights".
        knows: "classifier", "classifier, purifier" or "classifier, purifier, seed".
        asks: what the attack asks of the model: gradients, losses ("queries"), classes
            ("decisions") or nothing.
        norm: "Linf" or "L2".
        eps: the radius, pixels in [0, 1].
        attack: the attack's settings; "type" is its class.
        gradient: the settings of the gradient mode that the purifier is differentiated by; None
            where the attack does not see the purifier.
    """

    name: str
    knows: str
    asks: Asks
    norm: str
    eps: float
    attack: Plain
    gradient: Plain | None

    @classmethod
    def of(cls, recorded: Plain) -> Self:
        """The threat that `run.json` declares under a label.

        Raises:
            InputError: where a part is missing or of another type.
        """
        try:
            attack = _is(recorded["attack"], dict)
            threat = cls(
                name=_is(recorded["name"], str),
                knows=_is(recorded["knows"], str),
                asks=_ASKS[recorded["asks"]],
                norm=_is(recorded["norm"], str),
                eps=float(_is(recorded["eps"], (int, float))),
                attack=attack | {"type": _is(attack["type"], str)},
                gradient=_optional(recorded.get("gradient")),
            )
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise InputError(f"a recorded attack is incomplete ({error!r})") from error
        return threat

    @property
    def type(self) -> str:
        """The attack's class: "PGD", "Transfer", "Foolbox", …"""
        return str(self.attack["type"])

    @property
    def crafted(self) -> Plain:
        """The settings of the attack that makes the images: of a transfer, that on its source."""
        inner = self.attack.get("attack")
        return inner if self.type == "Transfer" and isinstance(inner, dict) else self.attack

    @property
    def source(self) -> Plain:
        """What a transfer was made on: "classifier", "purifier", "gradient"; else empty."""
        source = self.attack.get("source")
        return source if self.type == "Transfer" and isinstance(source, dict) else {}

    @property
    def is_noise(self) -> bool:
        """Whether it is random noise, which is drawn for comparison and is no attack."""
        return self.type == "UniformNoise"

    @property
    def knows_seed(self) -> bool:
        """Whether the attacker knows the purifier's seed."""
        return self.knows.endswith("seed")

    @property
    def is_white_box(self) -> bool:
        """Whether it uses gradients of the defence, or of a faster version of it."""
        return self.knows != "classifier" and self.asks not in ("queries", "decisions")

    @property
    def ball(self) -> Ball:
        """Its norm and radius."""
        return self.norm, self.eps

    def number(self, setting: str, default: float = 0) -> float:
        """A numeric setting of the attack that makes the images."""
        value = self.crafted.get(setting)
        return default if value is None or not _is_number(value) else value


UNATTACKED = RecordedThreat(
    name="none",
    knows="nothing",
    asks="nothing",
    norm="Linf",
    eps=0.0,
    attack={"type": "Unattacked"},
    gradient=None,
)
"""What is done to clean images."""


_ASKS: dict[str, Asks] = {asks: asks for asks in get_args(Asks)}


def _is(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is a {type(value).__name__}")
    return value


def _optional(value: Any) -> Plain | None:
    return None if value is None else _is(value, dict)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
