from .adaptation import AdaptedInput, InputAdaptation, Movement
from .anti_adversary import AntiAdversary
from .base import DefendedInside, Inside, RandomFilter
from .defense_gan import DefenseGAN
from .deflection import PixelDeflection, Wavelet
from .guided_denoiser import (
    DenoisingUNet,
    GuidedDenoiser,
    load_guided_denoiser,
    train_guided_denoiser,
)
from .hedge import HedgeDefence
from .learning import save_weights
from .lid import LID, LIDDetector, load_lid, train_lid
from .noisy import Noisy
from .pixel_cnn import PixelCNN, load_pixel_cnn, train_pixel_cnn
from .pixel_defend import PixelDefend, p_values
from .pruning import ActivationPruning
from .quilting import PatchBank, Quilting
from .randomisation import ResizeAndPad
from .rectifier import (
    PerturbationRectifier,
    RectifyingNetwork,
    load_rectifier,
    train_rectifier,
)
from .soap import SOAP, load_head, save_head, train_rotation
from .thermometer import Thermometer
from .transformations import JPEG, BitDepth, CropEnsemble, TVMinimisation
from .wgan import Generator, load_generator, save_generator, train_generator

__all__ = [
    "JPEG",
    "LID",
    "SOAP",
    "ActivationPruning",
    "AdaptedInput",
    "AntiAdversary",
    "BitDepth",
    "CropEnsemble",
    "DefendedInside",
    "DefenseGAN",
    "DenoisingUNet",
    "Generator",
    "GuidedDenoiser",
    "HedgeDefence",
    "InputAdaptation",
    "Inside",
    "LIDDetector",
    "Movement",
    "Noisy",
    "PatchBank",
    "PerturbationRectifier",
    "PixelCNN",
    "PixelDefend",
    "PixelDeflection",
    "Quilting",
    "RandomFilter",
    "RectifyingNetwork",
    "ResizeAndPad",
    "TVMinimisation",
    "Thermometer",
    "Wavelet",
    "load_generator",
    "load_guided_denoiser",
    "load_head",
    "load_lid",
    "load_pixel_cnn",
    "load_rectifier",
    "p_values",
    "save_generator",
    "save_head",
    "save_weights",
    "train_generator",
    "train_guided_denoiser",
    "train_lid",
    "train_pixel_cnn",
    "train_rectifier",
    "train_rotation",
]
