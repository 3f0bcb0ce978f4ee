"""The defences that Table 2 of the paper cites, in this package's contracts; docs/rivals.md.

Adversarial training (Madry et al. 2018) is an option of `ridefense.classifiers.train`, and the
thermometer's classifiers are architectures of that.
"""

from ridefense.rivals.base import DefendedInside, Inside, RandomFilter
from ridefense.rivals.defense_gan import DefenseGAN
from ridefense.rivals.deflection import PixelDeflection, Wavelet
from ridefense.rivals.pruning import ActivationPruning
from ridefense.rivals.randomisation import ResizeAndPad
from ridefense.rivals.thermometer import Thermometer, thermometer
from ridefense.rivals.transformations import JPEG, BitDepth, CropEnsemble, TVMinimisation
from ridefense.rivals.wgan import Generator, load_generator, save_generator, train_generator

__all__ = [
    "JPEG",
    "ActivationPruning",
    "BitDepth",
    "CropEnsemble",
    "DefendedInside",
    "DefenseGAN",
    "Generator",
    "Inside",
    "PixelDeflection",
    "RandomFilter",
    "ResizeAndPad",
    "TVMinimisation",
    "Thermometer",
    "Wavelet",
    "load_generator",
    "save_generator",
    "thermometer",
    "train_generator",
]
