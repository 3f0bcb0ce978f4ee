"""RIDE, a test-time defence against adversarial images, its siblings, attacks and audit."""

from ridefense.defended import Defended
from ridefense.errors import InputError, RideError
from ridefense.estimate import Descent, Estimate, Moment
from ridefense.estimators import DAE, DIP, IDIP, RIDE, Estimator
from ridefense.filters import GaussianBlur, Median, TVBregman, TVChambolle, Unchanged
from ridefense.images import IMAGENET, MNIST, Normalisation
from ridefense.networks import NETWORKS, Network, UNet
from ridefense.settings import Settings, alpha_from_lambda

__version__ = "0.1.0"

__all__ = [
    "DAE",
    "DIP",
    "IDIP",
    "IMAGENET",
    "MNIST",
    "NETWORKS",
    "RIDE",
    "Defended",
    "Descent",
    "Estimate",
    "Estimator",
    "GaussianBlur",
    "InputError",
    "Median",
    "Moment",
    "Network",
    "Normalisation",
    "RideError",
    "Settings",
    "TVBregman",
    "TVChambolle",
    "UNet",
    "Unchanged",
    "alpha_from_lambda",
]
