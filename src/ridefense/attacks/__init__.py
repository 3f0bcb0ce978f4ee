"""Attacks on classifiers, bare or `Defended`: each an object with one call, see `Attack`."""

from ridefense.attacks.apgd import APGD
from ridefense.attacks.base import Attack, Unattacked, UniformNoise
from ridefense.attacks.blackbox import NES, SPSA
from ridefense.attacks.bridges import AutoAttack, Foolbox, Square
from ridefense.attacks.descent import FGSM, PGD, Iterate, Iterative
from ridefense.attacks.held import HeldWeights
from ridefense.attacks.losses import LOSSES, cross_entropy, dlr, margin
from ridefense.attacks.objective import Value
from ridefense.attacks.transfer import Transfer

__all__ = [
    "APGD",
    "FGSM",
    "LOSSES",
    "NES",
    "PGD",
    "SPSA",
    "Attack",
    "AutoAttack",
    "Foolbox",
    "HeldWeights",
    "Iterate",
    "Iterative",
    "Square",
    "Transfer",
    "Unattacked",
    "UniformNoise",
    "Value",
    "cross_entropy",
    "dlr",
    "margin",
]
