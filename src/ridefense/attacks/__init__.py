"""Attacks on classifiers, bare or `Defended`: each an object with one call, see `Attack`."""

from ridefense.attacks.base import Attack, Unattacked
from ridefense.attacks.descent import FGSM, PGD, Iterate, Iterative
from ridefense.attacks.losses import LOSSES, cross_entropy, dlr, margin
from ridefense.attacks.objective import Value

__all__ = [
    "FGSM",
    "LOSSES",
    "PGD",
    "Attack",
    "Iterate",
    "Iterative",
    "Unattacked",
    "Value",
    "cross_entropy",
    "dlr",
    "margin",
]
