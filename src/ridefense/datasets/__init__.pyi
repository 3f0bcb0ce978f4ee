from .catalogue import (
    Family,
    data_root,
    family,
    from_huggingface,
    load,
    load_image,
    names,
    save_image,
)
from .dataset import Dataset
from .packaged import CIFAR10_CLASSES
from .preparation import Preparation

__all__ = [
    "CIFAR10_CLASSES",
    "Dataset",
    "Family",
    "Preparation",
    "data_root",
    "family",
    "from_huggingface",
    "load",
    "load_image",
    "names",
    "save_image",
]
