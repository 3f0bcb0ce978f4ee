"""Input transformations of Guo et al., "Countering Adversarial Images using Input
Transformations" (ICLR 2018): bit depth, JPEG, total-variance minimisation, crop ensembles.

Image quilting, the fifth, is in `quilting`.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ridefense.defended import Before
from ridefense.errors import InputError, check_positive, check_share, check_whole
from ridefense.filters import Filter
from ridefense.noise import Id, Keys, Stream
from ridefense.rivals.base import Inside, RandomFilter
from ridefense.rivals.softjpeg import SoftJPEG


@dataclass(frozen=True)
class BitDepth(Filter):
    """Pixels rounded to 2^`bits` levels: 3 bits in the paper, 1 suits MNIST (Xu et al. 2018)."""

    bits: int = 3
    differentiable = False
    takes_raw = False  # it works on levels of [0, 1]

    def __post_init__(self) -> None:
        check_whole("bits", self.bits, 1)
        if self.bits > 16:
            raise InputError(f"bits is {self.bits}; use 1 to 16")

    @property
    def stand_ins(self) -> tuple[nn.Module, ...]:
        """Smooth imitations of it, to be attacked in its place; none of fine levels.

        Those are all but the identity, which BPDA takes them for.
        """
        if self.bits > 4:
            return ()
        return tuple(SoftSteps(2**self.bits - 1, slope) for slope in (5.0, 10.0, 20.0))

    def apply(self, images: Tensor) -> Tensor:
        top = 2**self.bits - 1
        levels: Tensor = (images.detach().double() * top).round()
        return levels.div(top).to(images.dtype)


class SoftSteps(Before, nn.Module):
    """Rounding to multiples of 1/`steps` with a sigmoid for each step, of this slope.

    A purifier like others, [N, C, H, W] in [0, 1] to the same, but that its derivative leads
    somewhere.
    """

    name = "soft steps"
    edges: Tensor
    slope: Tensor
    is_randomised = False
    is_dynamic = False
    differentiable = True

    def __init__(self, steps: int, slope: float) -> None:
        super().__init__()
        # As buffers, so that attacks through it are told apart by its values.
        self.register_buffer("edges", (torch.arange(steps) + 0.5) / steps)
        self.register_buffer("slope", torch.tensor(slope))

    def forward(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        distance = images[..., None] - self.edges.to(images)
        steep = self.slope.to(images) * len(self.edges)
        return torch.sigmoid(steep * distance).mean(dim=-1)


@dataclass(frozen=True)
class JPEG(Filter):
    """JPEG compression, at quality 75 as in the paper; images of one channel or three.

    BPDA takes the identity for its derivative. An attack through its stand-in finds more.
    """

    quality: int = 75
    differentiable = False
    takes_raw = False  # it works on levels of [0, 1]

    def __post_init__(self) -> None:
        if not isinstance(self.quality, int) or not 1 <= self.quality <= 100:
            raise InputError(f"quality is {self.quality!r}; use a whole number from 1 to 100")

    @property
    def stand_ins(self) -> tuple[nn.Module, ...]:
        """The codec with a derivative."""
        return (SoftJPEG(self.quality),)

    def apply(self, images: Tensor) -> Tensor:
        if images.shape[1] not in (1, 3):
            raise InputError(f"images {tuple(images.shape)} are no JPEG's; use 1 or 3 channels")
        levels = (images.detach().cpu().double() * 255).round().byte().permute(0, 2, 3, 1)
        decoded = [self._decoded(image.squeeze(-1).numpy()) for image in levels]
        pixels = torch.from_numpy(np.stack(decoded)).view(levels.shape).permute(0, 3, 1, 2)
        return pixels.double().div(255).to(images)

    def _decoded(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [H, W] or [H, W, 3], through a file in memory."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality)
        return np.asarray(Image.open(file))


@dataclass(frozen=True)
class TVMinimisation(RandomFilter):
    """Total-variance minimisation: drop random pixels, and fill in what varies least.

    Of z the minimum of ‖M⊙(z - x)‖₂ + weight·TV₂(z), M a random mask that keeps a pixel of a
    channel with probability 1 - `drop`, TV₂ the sum of the ℓ2 norms of the differences between
    neighbouring rows and between neighbouring columns. All terms are norms of linear
    maps, so the primal-dual method of Chambolle & Pock (2011) solves it by projections alone,
    where the original has split Bregman.

    Attributes:
        drop: share of the pixels left out; 0.5 in the paper.
        weight: λ_TV; 0.03 in the paper.
        steps: of the solver; 300 come within 1% of the least value.
    """

    drop: float = 0.5
    weight: float = 0.03
    steps: int = 300

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise InputError(f"drop is {self.drop}; use a number from 0, below 1")
        check_positive("weight", self.weight)
        check_whole("steps", self.steps, 1)

    def mask(self, images: Tensor, keys: Keys) -> Tensor:
        """Which pixels are kept, 0 or 1: [N, C, H, W]."""
        drawn = keys.uniform(Stream.MASK, [0], images[0].numel())
        return (drawn.view(images.shape) >= self.drop).to(images)

    def draw(self, images: Tensor, keys: Keys) -> Tensor:
        mask = self.mask(images, keys)
        # The map (mask, row differences, column differences) has a squared norm of at most 9.
        step = 1 / 3
        z = ahead = images * mask
        data, rows, columns = (torch.zeros_like(part) for part in (z, *_differences(z)))
        for _ in range(self.steps):
            d_rows, d_columns = _differences(ahead)
            data = _into_ball(data + step * mask * (ahead - images), 1.0, (1, 2, 3))
            rows = _into_ball(rows + step * d_rows, self.weight, 3)
            columns = _into_ball(columns + step * d_columns, self.weight, 2)
            moved = z - step * (mask * data + _adjoint(rows, columns))
            z, ahead = moved, 2 * moved - z
        return z


def _differences(z: Tensor) -> tuple[Tensor, Tensor]:
    return z.diff(dim=2), z.diff(dim=3)


def _adjoint(rows: Tensor, columns: Tensor) -> Tensor:
    """Of `_differences`."""
    return -F.pad(rows, (0, 0, 1, 1)).diff(dim=2) - F.pad(columns, (1, 1)).diff(dim=3)


def _into_ball(y: Tensor, radius: float, dims: int | tuple[int, ...]) -> Tensor:
    norms = torch.linalg.vector_norm(y, dim=dims, keepdim=True)
    shrunk: Tensor = y / (norms / radius).clamp_min(1)
    return shrunk


@dataclass(frozen=True)
class CropEnsemble(Inside):
    """Probabilities averaged over random crops, each enlarged to the image's size.

    Attributes:
        crops: 30 in the paper.
        share: a crop's side as a share of the image's; 90 of 224 pixels in the paper, where the
            classifiers were trained on crops. One that was not needs more, as 24 of 28.
    """

    crops: int = 30
    share: float = 90 / 224

    def __post_init__(self) -> None:
        check_whole("crops", self.crops, 1)
        check_share("share", self.share)

    def logits(self, classifier: nn.Module, images: Tensor, keys: Keys) -> Tensor:
        size = images.shape[-2:]
        side = [max(1, round(self.share * length)) for length in size]
        room = torch.tensor(size, device=images.device) - torch.tensor(side, device=images.device)
        drawn = keys.uniform(Stream.CROP, range(self.crops), 2)
        corners = (drawn * (room + 1)).long().transpose(0, 1).tolist()  # [crops, N, 2]
        total = images.new_zeros(())
        for places in corners:
            crops = [
                image[:, top : top + side[0], left : left + side[1]]
                for image, (top, left) in zip(images, places, strict=True)
            ]
            enlarged = F.interpolate(torch.stack(crops), size, mode="bilinear")
            total = total + classifier(enlarged).softmax(dim=1)
        return (total / self.crops).clamp_min(torch.finfo(total.dtype).tiny).log()
