"""What an image is here: a float tensor [N, C, H, W] of pixels in [0, 1]."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ridefense.errors import InputError


def check_images(images: Tensor, *, bounded: bool = True) -> None:
    """Refuse what no purifier can take.

    Args:
        images: float tensor [N, C, H, W], N ≥ 1, pixels in [0, 1].
        bounded: whether pixels beyond [0, 1] are refused; noisy images have them.

    Raises:
        InputError: for any other type, dtype, shape or range, and for NaN.
    """
    if not isinstance(images, Tensor):
        raise InputError(f"images are a {type(images).__name__}; pass a torch.Tensor [N, C, H, W]")
    if not images.is_floating_point():
        raise InputError(f"images have dtype {images.dtype}; convert them: images.float() / 255")
    if images.ndim != 4:
        raise InputError(f"images have shape {tuple(images.shape)}; pass [N, C, H, W]")
    if 0 in images.shape:
        raise InputError(
            f"images have shape {tuple(images.shape)}, which is empty; pass at least one"
        )
    low, high = images.detach().aminmax()
    if not torch.isfinite(low) or not torch.isfinite(high):
        raise InputError("images contain NaN or infinity; clean them before purifying")
    if bounded and (low < 0 or high > 1):
        raise InputError(
            f"images lie in [{low:.4g}, {_shown(high.item())}]; scale or clamp them to [0, 1] "
            "(normalisation belongs to the classifier)"
        )


def _shown(high: float) -> str:
    """A pixel in four digits, or in as many as show that it is above 1."""
    texts = (f"{high:.{digits}g}" for digits in range(4, 18))
    return next(text for text in texts if (float(text) > 1) == (high > 1))


def cut_to_range(images: Tensor) -> Tensor:
    """Images cut to [0, 1], with the derivative of the identity.

    That of `clamp` vanishes at 0 and at 1 themselves, where all of a digit's background lies, and
    would hide them from an attacker.
    """
    return moving_with(images.clamp(0, 1), images)


def moving_with(value: Tensor, images: Tensor) -> Tensor:
    """`value`, exactly, with the derivative of `images`."""
    return value.detach() + (images - images.detach())


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation of a dataset's pixels.

    A classifier normalises in its first layer. The paper states σ without its units; read as
    normalised pixels it is `sigma(0.5)` in [0, 1] pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, images: Tensor) -> Tensor:
        """[0, 1] pixels [..., C, H, W] to zero mean and unit deviation."""
        return (images - self._column(self.mean, images)) / self._column(self.std, images)

    def denormalise(self, images: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return images * self._column(self.std, images) + self._column(self.mean, images)

    def sigma(self, sigma: float) -> tuple[float, ...]:
        """A deviation given in normalised pixels, per channel in [0, 1] pixels."""
        return tuple(sigma * std for std in self.std)

    @staticmethod
    def _column(values: tuple[float, ...], images: Tensor) -> Tensor:
        return images.new_tensor(values).view(-1, 1, 1)


MNIST = Normalisation(mean=(0.1307,), std=(0.3081,))
# The paper normalises CIFAR-10 with ImageNet's figures too (section 4).
IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
