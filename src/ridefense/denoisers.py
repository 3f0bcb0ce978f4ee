"""Denoisers for images under strong Gaussian noise, as randomised smoothing adds it.

They take pixels beyond [0, 1] (`raw`): a noisy pixel of -0.4 says more than its clipped value.
"""

import copy
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ridefense import drawn
from ridefense.errors import InputError, check_positive, check_whole
from ridefense.filters import Filter, GaussianBlur, each_image


@dataclass(frozen=True)
class ContrastBlur(Filter):
    """Gaussian blur, then contrast: `gain` times the distance from `centre`, cut to [0, 1].

    Attributes:
        sigma: of the blur, in pixels.
        gain: above 0; 1 leaves the contrast as it is.
        centre: the grey level that contrast leaves where it is.
    """

    sigma: float = 0.9
    gain: float = 2.0
    centre: float = 0.5

    def __post_init__(self) -> None:
        GaussianBlur(self.sigma)
        check_contrast(self.gain, self.centre)

    def apply(self, images: Tensor) -> Tensor:
        return contrast(GaussianBlur(self.sigma).apply(images), self.gain, self.centre)


@dataclass(frozen=True)
class OrientedLines(Filter):
    """The mean along a short line, in the direction in which it is highest, then contrast.

    An image is filtered by elongated Gaussians in several directions. Of the responses a softmax
    takes the larger ones, so that bright strokes are averaged along themselves and not across.
    Each channel is filtered by itself.

    Attributes:
        along: standard deviation along the line, in pixels.
        across: across it.
        directions: how many, evenly over half a turn.
        sharpness: of the softmax, per unit of pixel value; 0 is the mean over directions.
        gain, centre: as in `ContrastBlur`.
    """

    along: float = 2.0
    across: float = 0.7
    directions: int = 8
    sharpness: float = 10.0
    gain: float = 2.0
    centre: float = 0.5

    def __post_init__(self) -> None:
        check_positive("along", self.along)
        check_positive("across", self.across)
        check_whole("directions", self.directions, 2)
        if not 0 <= self.sharpness < math.inf:
            raise InputError(f"sharpness is {self.sharpness!r}; use a number of at least 0")
        check_contrast(self.gain, self.centre)

    def apply(self, images: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        kernels = _line_kernels(self.along, self.across, self.directions).to(images)
        radius = kernels.shape[-1] // 2
        planes = images.reshape(count * channels, 1, height, width)
        # Repeated edges, since a reflection needs images larger than the kernel.
        planes = F.pad(planes, [radius] * 4, mode="replicate")
        found = F.conv2d(planes, kernels)
        weights = torch.softmax(self.sharpness * found, dim=1)
        return contrast((weights * found).sum(dim=1).view_as(images), self.gain, self.centre)


@dataclass(frozen=True)
class NonLocalMeans(Filter):
    """Non-local means (Buades et al. 2005; scikit-image's fast variant), channels together.

    Attributes:
        strength: h, the cut-off in grey levels; higher smooths more.
        patch: side of the patches that are compared, in pixels.
        distance: how far away patches are looked for, in pixels.
        sigma: standard deviation of the noise, where it is known; 0 otherwise.
    """

    strength: float = 0.1
    patch: int = 3
    distance: int = 6
    sigma: float = 0.0
    differentiable = False

    def __post_init__(self) -> None:
        check_positive("strength", self.strength)
        check_whole("patch", self.patch, 1)
        check_whole("distance", self.distance, 1)
        if not 0 <= self.sigma < math.inf:
            raise InputError(f"sigma is {self.sigma!r}; use a number of at least 0")

    def apply(self, images: Tensor) -> Tensor:
        from skimage.restoration import denoise_nl_means

        return each_image(
            images,
            denoise_nl_means,
            patch_size=self.patch,
            patch_distance=self.distance,
            h=self.strength,
            sigma=self.sigma,
            fast_mode=True,
        )


@dataclass(frozen=True)
class DrawnDenoiser(Filter):
    """A network that was trained on images drawn at random, and on no image of a data set.

    `ridefense.drawn` is its recipe.

    Attributes:
        network: one by `drawn.train` or `drawn.load_network`; by default the one that ships.
    """

    network: drawn.DrawnNetwork | None = None
    kind: ClassVar[drawn.Kind]
    channels: ClassVar[int]

    def __post_init__(self) -> None:
        if not isinstance(self.network, drawn.DrawnNetwork | None):
            raise InputError(
                f"network is {self.network!r:.60}; use drawn.load_network({self.kind!r}, path)"
            )

    def apply(self, images: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        if height % 2 or width % 2 or channels % self.channels:
            raise InputError(
                f"images have shape {tuple(images.shape)}; {self.name} takes images of even sides "
                f"and {self.channels} channels"
            )
        network = copy.deepcopy(self.network or _shipped(self.kind)).to(images)
        planes = images.reshape(-1, self.channels, height, width)
        found: Tensor = network(planes.contiguous(memory_format=torch.channels_last))
        return found.reshape(count, channels, height, width)


@dataclass(frozen=True)
class Strokes(DrawnDenoiser):
    """Trained on handwriting drawn at random; each channel is filtered by itself."""

    kind = "strokes"
    channels = 1


@dataclass(frozen=True)
class Leaves(DrawnDenoiser):
    """Trained on dead leaves, which have the statistics of photographs; for colour images."""

    kind = "leaves"
    channels = 3


@lru_cache(maxsize=2)
def _shipped(kind: drawn.Kind) -> drawn.DrawnNetwork:
    return drawn.load_network(kind)


def contrast(images: Tensor, gain: float, centre: float) -> Tensor:
    """`gain` times the distance from `centre`; not cut to [0, 1]."""
    return centre + gain * (images - centre)


def check_contrast(gain: float, centre: float) -> None:
    """Refuse a contrast that is none.

    Raises:
        InputError: for a gain that is not positive, and a centre outside [0, 1].
    """
    check_positive("gain", gain)
    if not 0 <= centre <= 1:
        raise InputError(f"centre is {centre!r}; use a grey level from 0 to 1")


@lru_cache(maxsize=8)
def _line_kernels(along: float, across: float, directions: int) -> Tensor:
    """Elongated Gaussians of sum 1, float32 [directions, 1, 2r+1, 2r+1], cut at two deviations."""
    radius = max(1, math.ceil(2 * max(along, across)))
    place = torch.arange(-radius, radius + 1, dtype=torch.float64)
    rows, columns = torch.meshgrid(place, place, indexing="ij")
    angle = (torch.arange(directions, dtype=torch.float64) * math.pi / directions)[:, None, None]
    u = columns * angle.cos() + rows * angle.sin()
    v = rows * angle.cos() - columns * angle.sin()
    kernels = torch.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    return (kernels / kernels.sum(dim=(1, 2), keepdim=True)).float()[:, None]
