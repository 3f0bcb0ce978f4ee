"""Fixed purifiers: the paper's baselines (section 4), each with an estimator's call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from ridefense.defended import Before
from ridefense.errors import InputError, check_positive
from ridefense.images import check_images, cut_to_range
from ridefense.noise import Id, Keys


@dataclass(frozen=True)
class Filter(Before):
    """A purifier without randomness; `ids` and `seed` are checked and change nothing.

    Attributes:
        differentiable: whether PyTorch can differentiate it as it is.
        takes_raw: whether `raw` takes pixels beyond [0, 1].
    """

    differentiable = True
    takes_raw = True
    is_randomised = False
    is_dynamic = False
    is_local = True

    @property
    def name(self) -> str:
        return type(self).__name__

    def __call__(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        """Filtered images [N, C, H, W], pixels in [0, 1]; the input is not changed.

        Raises:
            InputError: for images that are not float [N, C, H, W] in [0, 1], and for a seed or ids
                that no purifier takes.
        """
        check_images(images)
        return self.raw(images, ids, seed)

    def raw(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        """As a call, for images with pixels beyond [0, 1], which are cut after filtering.

        Randomised smoothing adds such noise, and clipping before the filter would bias it.
        """
        check_images(images, bounded=False)
        Keys.of(seed, ids, len(images), images.device)
        return cut_to_range(self.apply(images))

    def apply(self, images: Tensor) -> Tensor:
        """The filter itself, on images that have been checked."""
        raise NotImplementedError


@dataclass(frozen=True)
class Unchanged(Filter):
    """No defender: the images as they are."""

    def apply(self, images: Tensor) -> Tensor:
        return images.clone()


@dataclass(frozen=True)
class Median(Filter):
    """Median filter of odd `kernel` size, zero padded by ⌊k/2⌋, each channel by itself."""

    kernel: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.kernel, int) or self.kernel < 1 or self.kernel % 2 == 0:
            raise InputError(f"kernel is {self.kernel!r}; use an odd whole number, as 3 to 11")

    def apply(self, images: Tensor) -> Tensor:
        n, c, h, w = images.shape
        patches = F.unfold(images.reshape(n * c, 1, h, w), self.kernel, padding=self.kernel // 2)
        return patches.median(dim=1).values.view(n, c, h, w)


@dataclass(frozen=True)
class GaussianBlur(Filter):
    """Gaussian blur of standard deviation `sigma` pixels, cut at 3σ, reflected at the border."""

    sigma: float = 1.0

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)

    def apply(self, images: Tensor) -> Tensor:
        radius = max(1, round(3 * self.sigma))
        if radius >= min(images.shape[-2:]):
            raise InputError(
                f"sigma is {self.sigma} for images {tuple(images.shape)}; blur by less"
            )
        size, sigma = [2 * radius + 1] * 2, [self.sigma] * 2
        blurred: Tensor = transforms.gaussian_blur(images, size, sigma)
        return blurred


@dataclass(frozen=True)
class TVChambolle(Filter):
    """Total variation by Chambolle's algorithm (scikit-image); more `weight` smooths more."""

    weight: float = 0.1
    differentiable = False

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)

    def apply(self, images: Tensor) -> Tensor:
        from skimage.restoration import denoise_tv_chambolle

        return each_image(images, denoise_tv_chambolle, weight=self.weight)


@dataclass(frozen=True)
class TVBregman(Filter):
    """Total variation by split Bregman (scikit-image); *less* `weight` smooths more."""

    weight: float = 5.0
    differentiable = False

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)

    def apply(self, images: Tensor) -> Tensor:
        from skimage.restoration import denoise_tv_bregman

        def denoise(array: np.ndarray, weight: float, channel_axis: int) -> np.ndarray:
            # scikit-image drops axes of one; without the channels' it transposes what is left.
            if len(array) == 1:
                return np.asarray(denoise_tv_bregman(array[0], weight=weight)[None])
            found = denoise_tv_bregman(array, weight=weight, channel_axis=channel_axis)
            return np.asarray(found)

        # Nor does it take an axis of one pixel: as three equal ones, with no variation along it.
        thin = [3 if side == 1 else 1 for side in images.shape[2:]]
        found = each_image(images.repeat(1, 1, *thin), denoise, weight=self.weight)
        return found[:, :, thin[0] // 2 :: thin[0], thin[1] // 2 :: thin[1]]


def each_image(
    images: Tensor, denoise: Callable[..., np.ndarray], **settings: float | bool
) -> Tensor:
    """scikit-image's filter on every image by itself, all channels together."""
    # Channels last: scikit-image drops axes of length one from some results, and would then move
    # another axis to the place of the channels.
    arrays = np.moveaxis(images.detach().cpu().float().numpy(), 1, -1)
    filtered = [denoise(a, channel_axis=-1, **settings).reshape(a.shape) for a in arrays]
    return torch.from_numpy(np.moveaxis(np.stack(filtered), -1, 1).copy()).to(images)
