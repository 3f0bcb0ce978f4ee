"""Classifiers to defend: pixels in [0, 1] to logits, normalisation their first layer."""

from ridefense.classifiers.architectures import ARCHITECTURES, Architecture, Recipe
from ridefense.classifiers.classifier import Classifier, Info, save
from ridefense.classifiers.loading import load, names
from ridefense.classifiers.training import Progress, count_correct, train

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
