from .base import DefendedInside, Inside, RandomFilter
from .defense_gan import DefenseGAN
from .deflection import PixelDeflection, Wavelet
from .pruning import ActivationPruning
from .randomisation import ResizeAndPad
from .thermometer import Thermometer
from .transformations import JPEG, BitDepth, CropEnsemble, TVMinimisation
from .wgan import Generator, load_generator, save_generator, train_generator

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
    "train_generator",
]
