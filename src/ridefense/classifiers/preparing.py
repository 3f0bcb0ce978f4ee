"""Images from anywhere as a classifier takes them, and the names of its classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ridefense.classifiers.architectures import ARCHITECTURES
from ridefense.classifiers.classifier import Classifier, Normalise
from ridefense.errors import InputError
from ridefense.imagefiles import Sizing, tensor
from ridefense.logits import logits_of

_CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True)
class Input:
    """What a classifier takes and returns.

    Attributes:
        channels: 1 or 3.
        sizing: how images are brought to its size.
        classes: the names of its classes, in their order; numbers where they have no names.
    """

    channels: int
    sizing: Sizing
    classes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """[C, H, W] of the images that it takes."""
        return (self.channels, *self.sizing.size)

    def prepared(self, image: Image.Image, name: str) -> Tensor:
        """An image in mode L or RGB, as float32 [C, H, W] in [0, 1]; `name` is for errors.

        Raises:
            InputError: for an image in colour where the classifier takes grey ones, and for one
                that is too slim to be resized.
        """
        if self.channels == 1 and image.mode == "RGB":
            red, green, blue = image.split()
            if not red.tobytes() == green.tobytes() == blue.tobytes():
                raise InputError(f"{name} is in colour; the classifier takes grey images")
            image = red
        sized = self.sizing.apply(image, name)
        pixels = tensor(sized).float() / 255
        return pixels.expand(self.channels, -1, -1).contiguous()


def input_of(classifier: Classifier, size: tuple[int, int] | None = None) -> Input:
    """What a classifier takes, found by asking it.

    Args:
        classifier: in eval mode.
        size: height and width of its images, by default those that it was made for.

    Raises:
        InputError: where it does not say for which size it was made, and where it takes no images
            of its size.
    """
    name = classifier.info.name
    sizing = classifier.sizing
    if size is not None:
        sizing = Sizing(size)
    elif sizing is None and classifier.info.architecture in ARCHITECTURES:
        side = max(ARCHITECTURES[classifier.info.architecture].recipe.crops)
        sizing = Sizing((side, side))
    if sizing is None:
        raise InputError(f"classifier {name} does not say what size of images it takes; pass size")
    normalise = classifier[0]
    assert isinstance(normalise, Normalise)  # as every Classifier begins
    told: InputError | None = None
    device = normalise.mean.device
    # An image of one channel passes a normalisation of three, so three are tried first there.
    for channels in dict.fromkeys((normalise.mean.numel(), 1, 3)):
        try:
            with torch.no_grad():
                images = torch.full((2, channels, *sizing.size), 0.5, device=device)
                count = logits_of(classifier, images).shape[1]
        except InputError as error:
            told = told or error
            continue
        return Input(channels, sizing, tuple(class_names(classifier, count)))
    assert told is not None  # at least one number of channels was tried
    raise told


def class_names(classifier: Classifier, count: int) -> Sequence[str]:
    """The names of a classifier's classes: of CIFAR-10, of ImageNet, or numbers."""
    dataset = classifier.info.dataset
    if dataset.startswith("CIFAR-10") and count == len(_CIFAR10):
        return _CIFAR10
    if dataset == "ImageNet" and count == 1000:
        from torchvision.models import ResNet18_Weights

        names: list[str] = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
        return names
    return [str(n) for n in range(count)]
