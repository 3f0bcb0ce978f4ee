from .answers import Value
from .apgd import APGD
from .autoattack import AutoAttack, Square
from .base import Attack, AttackOutcome, Unattacked, UniformNoise
from .blackbox import NES, SPSA
from .descent import FGSM, PGD, Iterate, Iterative
from .diagnostics import Diagnostics
from .flow import Flow
from .foolbox import Foolbox
from .held import HeldWeights
from .losses import LOSSES, cross_entropy, dlr, margin
from .lowfrequency import LowFrequency
from .rays import RayS
from .transfer import Transfer

__all__ = [
    "APGD",
    "FGSM",
    "LOSSES",
    "NES",
    "PGD",
    "SPSA",
    "Attack",
    "AttackOutcome",
    "AutoAttack",
    "Diagnostics",
    "Flow",
    "Foolbox",
    "HeldWeights",
    "Iterate",
    "Iterative",
    "LowFrequency",
    "RayS",
    "Square",
    "Transfer",
    "Unattacked",
    "UniformNoise",
    "Value",
    "cross_entropy",
    "dlr",
    "margin",
]
