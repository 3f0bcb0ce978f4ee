from .apgd import APGD
from .base import Attack, Unattacked, UniformNoise
from .blackbox import NES, SPSA
from .bridges import AutoAttack, Foolbox, Square
from .descent import FGSM, PGD, Iterate, Iterative
from .held import HeldWeights
from .losses import LOSSES, cross_entropy, dlr, margin
from .objective import Value
from .transfer import Transfer

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
