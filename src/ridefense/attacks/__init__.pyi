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
from .minimal import CarliniWagner, DeepFool, MinimalNorm
from .pixels import OnePixel
from .rays import RayS
from .transfer import Transfer
from .universal import UniversalPerturbation

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
    "CarliniWagner",
    "DeepFool",
    "Diagnostics",
    "Flow",
    "Foolbox",
    "HeldWeights",
    "Iterate",
    "Iterative",
    "LowFrequency",
    "MinimalNorm",
    "OnePixel",
    "RayS",
    "Square",
    "Transfer",
    "Unattacked",
    "UniformNoise",
    "UniversalPerturbation",
    "Value",
    "cross_entropy",
    "dlr",
    "margin",
]
