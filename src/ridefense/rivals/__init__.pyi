from .adaptation import AdaptedInput, InputAdaptation, Movement
from .anti_adversary import AntiAdversary
from .base import DefendedInside, Inside, RandomFilter
from .defense_gan import DefenseGAN
from .deflection import PixelDeflection, Wavelet
from .hedge import HedgeDefence
from .noisy import Noisy
from .pruning import ActivationPruning
from .randomisation import ResizeAndPad
from .soap import SOAP, load_head, save_head, train_rotation
from .thermometer import Thermometer
from .transformations import JPEG, BitDepth, CropEnsemble, TVMinimisation
from .wgan import Generator, load_generator, save_generator, train_generator

__all__ = [
    "JPEG",
    "SOAP",
    "ActivationPruning",
    "AdaptedInput",
    "AntiAdversary",
    "BitDepth",
    "CropEnsemble",
    "DefendedInside",
    "DefenseGAN",
    "Generator",
    "HedgeDefence",
    "InputAdaptation",
    "Inside",
    "Movement",
    "Noisy",
    "PixelDeflection",
    "RandomFilter",
    "ResizeAndPad",
    "TVMinimisation",
    "Thermometer",
    "Wavelet",
    "load_generator",
    "load_head",
    "save_generator",
    "save_head",
    "train_generator",
    "train_rotation",
]
