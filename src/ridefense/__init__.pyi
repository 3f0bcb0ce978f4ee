from . import (
    adapters,
    attacks,
    audit,
    classifiers,
    datasets,
    engines,
    evaluate,
    experiments,
    filters,
    gradients,
    images,
    preset_files,
    presets,
    purifiers,
    report,
    rivals,
    tuning,
)
from .defended import Defended
from .errors import CollapseWarning, InputError, RideError
from .estimate import Descent, Estimate, Moment
from .estimators import DAE, DIP, IDIP, RIDE, Estimator, Preset
from .filters import GaussianBlur, Median, TVBregman, TVChambolle, Unchanged
from .images import IMAGENET, MNIST, Normalisation
from .networks import NETWORKS, Network, UNet
from .settings import Settings, alpha_from_lambda

__all__ = [
    "DAE",
    "DIP",
    "IDIP",
    "IMAGENET",
    "MNIST",
    "NETWORKS",
    "RIDE",
    "CollapseWarning",
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
    "Preset",
    "RideError",
    "Settings",
    "TVBregman",
    "TVChambolle",
    "UNet",
    "Unchanged",
    "adapters",
    "alpha_from_lambda",
    "attacks",
    "audit",
    "classifiers",
    "datasets",
    "engines",
    "evaluate",
    "experiments",
    "filters",
    "gradients",
    "images",
    "preset_files",
    "presets",
    "purifiers",
    "report",
    "rivals",
    "tuning",
]

__version__: str
