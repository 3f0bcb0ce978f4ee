from .batching import Batcher
from .http import Reply, service
from .limits import Limits
from .metrics import Metrics
from .model import Answer, Prediction, Refused, Served
from .running import SEED_VARIABLE, run, secret_seed

__all__ = [
    "SEED_VARIABLE",
    "Answer",
    "Batcher",
    "Limits",
    "Metrics",
    "Prediction",
    "Refused",
    "Reply",
    "Served",
    "run",
    "secret_seed",
    "service",
]
