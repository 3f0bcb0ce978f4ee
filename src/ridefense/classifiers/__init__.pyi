from .adversarial import AdversarialTraining, Cascade, LogitPairing
from .architectures import ARCHITECTURES, Architecture, Recipe
from .classifier import Classifier, Info, rounded, save
from .imagenet import Expected
from .loading import expected, file_of, is_own, load, names
from .probing import check_classes, probe, readable, shape_taken
from .training import Progress, count_correct, train

__all__ = [
    "ARCHITECTURES",
    "AdversarialTraining",
    "Architecture",
    "Cascade",
    "Classifier",
    "Expected",
    "Info",
    "LogitPairing",
    "Progress",
    "Recipe",
    "check_classes",
    "count_correct",
    "expected",
    "file_of",
    "is_own",
    "load",
    "names",
    "probe",
    "readable",
    "rounded",
    "save",
    "shape_taken",
    "train",
]
