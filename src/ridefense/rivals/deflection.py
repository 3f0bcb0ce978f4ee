"""Pixel deflection of Prakash et al., "Deflecting Adversarial Attacks with Pixel Deflection"
(CVPR 2018), and its wavelet denoising."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ridefense.errors import check_positive, check_whole
from ridefense.filters import Filter
from ridefense.noise import Keys, Stream
from ridefense.rivals.base import RandomFilter


@dataclass(frozen=True)
class Wavelet(Filter):
    """Soft BayesShrink in the Haar domain (scikit-image), of colour images in YCbCr.

    Attributes:
        sigma: assumed deviation of the noise, in [0, 1] pixels; 0.04 in the paper.
    """

    sigma: float = 0.04
    differentiable = False

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)

    def apply(self, images: Tensor) -> Tensor:
        return _denoised(images, self.sigma)


@dataclass(frozen=True)
class PixelDeflection(RandomFilter):
    """Random pixels replaced by random neighbours, one after the other; then `Wavelet`.

    Pixels are drawn uniformly: this is the paper's variant without the class-activation map
    (R-CAM), which would need a classifier of its own. All channels of a pixel move together.

    Attributes:
        deflections: pixels replaced in each image; 200 in the authors' demonstration.
        window: largest distance of the neighbour in rows and in columns; 10 in the paper.
        sigma: of the denoising.
    """

    deflections: int = 200
    window: int = 10
    sigma: float = 0.04
    differentiable = False

    def __post_init__(self) -> None:
        check_whole("deflections", self.deflections, 0)
        check_whole("window", self.window, 1)
        check_positive("sigma", self.sigma)

    def draw(self, images: Tensor, keys: Keys) -> Tensor:
        return _denoised(self.deflected(images, keys), self.sigma)

    def deflected(self, images: Tensor, keys: Keys) -> Tensor:
        """The deflections alone."""
        drawn = keys.uniform(Stream.FIXED, [0], 4 * self.deflections)
        y, x, near_y, near_x = drawn.view(len(images), 4, self.deflections).unbind(dim=1)
        height, width = images.shape[2:]
        y, x = (y * height).long(), (x * width).long()
        near_y, near_x = self._neighbours(y, near_y, height), self._neighbours(x, near_x, width)
        moved = images.detach().clone()
        row = torch.arange(len(images), device=images.device)
        for k in range(self.deflections):
            moved[row, :, y[:, k], x[:, k]] = moved[row, :, near_y[:, k], near_x[:, k]]
        return moved

    def _neighbours(self, places: Tensor, drawn: Tensor, size: int) -> Tensor:
        """Uniform in the window, where that lies in the image; `drawn` is uniform on [0, 1)."""
        first = (places - self.window).clamp_min(0)
        last = (places + self.window).clamp_max(size - 1)
        return first + (drawn * (last - first + 1)).long()


def _denoised(images: Tensor, sigma: float) -> Tensor:
    from skimage.restoration import denoise_wavelet

    arrays = images.detach().cpu().double().numpy()
    with warnings.catch_warnings():
        # An image one pixel wide or high has no coarser scale.
        warnings.filterwarnings("ignore", "Level value of 1 is too high", UserWarning)
        denoised = [
            denoise_wavelet(
                array,
                sigma=sigma,
                wavelet="db1",
                mode="soft",
                method="BayesShrink",
                convert2ycbcr=len(array) == 3,
                channel_axis=0,
            )
            for array in arrays
        ]
    return torch.from_numpy(np.stack(denoised)).to(images)
