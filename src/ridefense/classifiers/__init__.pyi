from .architectures import ARCHITECTURES, Architecture, Recipe
from .classifier import Classifier, Info, save
from .loading import load, names
from .training import Progress, count_correct, train

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Classifier",
    "Info",
    "Progress",
    "Recipe",
    "count_correct",
    "load",
    "names",
    "save",
    "train",
]
