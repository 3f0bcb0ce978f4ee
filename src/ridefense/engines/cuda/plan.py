"""What the kernels are compiled for: all that is known before a fit begins, as one constant."""

import math
from dataclasses import dataclass, replace

import torch

from ridefense.networks import kept_share
from ridefense.noise import binary_digits
from ridefense.settings import Settings

PRECISIONS = {
    "float16": (torch.float16, "ieee"),
    "bfloat16": (torch.bfloat16, "ieee"),
    "tf32": (torch.float32, "tf32"),
    "float32": (torch.float32, "ieee"),
}
"""Of the convolutions' operands: how they are stored, and how a product takes float32 ones.

Sums, master weights, Adam's state and the loss are float32 in all of them.
"""

# Gradients of activations are kept times this power of two, so that float16 holds small ones.
GAIN = 64.0
STEPS = 100  # places in the schedule, the most steps of one part of a fit


@dataclass(frozen=True)
class Tiles:
    """How the work is cut into programs.

    Attributes:
        pixels: of an image that one matrix product takes.
        depth: rows of a convolution's matrix that one product takes.
        rows: of a convolution's matrix whose gradient one program sums.
        span: pixels over which it sums them; so sums do not depend on the batch.
        blocks: of random words that one program draws.
        weights: that one program updates.
        warps: of a program.
        stages: of a software pipeline over a convolution's products. With more than one, Triton
            copies past L1, which a 3×3 convolution reads nine times.
    """

    pixels: int = 128
    depth: int = 32
    rows: int = 64
    span: int = 2048
    blocks: int = 256
    weights: int = 1024
    warps: int = 4
    stages: int = 1


@dataclass(frozen=True)
class Plan:
    """Compile-time constants of one fit; a convolution's number counts from 1.

    Attributes:
        kernels: taps of each convolution's kernel, 9 or 1.
        height, width: of what a step fits, the crop or the image.
        image_height, image_width: of the image.
        samples: noisy inputs a step.
        dropout: the convolutions that dropout follows.
        digits: binary digits of the share that it keeps.
        limit: a pixel is kept where its word is below this.
        slope: of the activation below zero.
        recorruption: a of a recorrupted target; 0 where the target is none.
        noisy_target: whether it has noise of its own.
    """

    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    height: int
    width: int
    image_height: int
    image_width: int
    samples: int
    dropout: tuple[int, ...]
    digits: tuple[int, ...]
    share: float
    limit: int
    slope: float
    residual: bool
    sigmoid: bool
    norm: bool
    noisy_input: bool
    noisy_target: bool
    recorruption: float
    amsgrad: bool
    weight_decay: float
    product: str
    tiles: Tiles

    @classmethod
    def of(cls, settings: Settings, size: tuple[int, int], product: str, tiles: Tiles) -> "Plan":
        network = settings.network
        dropout = tuple(sorted(set(network.dropout_after))) if network.dropout else ()
        crop = (settings.crop,) * 2 if settings.crop else size
        return cls(
            channels=network.channels,
            kernels=network.taps,
            height=crop[0],
            width=crop[1],
            image_height=size[0],
            image_width=size[1],
            samples=settings.batch,
            dropout=dropout,
            digits=tuple(binary_digits(1 - network.dropout)) if dropout else (),
            share=kept_share(network.dropout),
            limit=math.floor((1 - settings.mask_ratio) * 2**32),
            slope=network.slope,
            residual=network.residual,
            sigmoid=network.sigmoid,
            norm=settings.loss == "norm",
            noisy_input=settings.noisy_input,
            noisy_target=settings.target_noise == "independent",
            recorruption=settings.recorruption if settings.target_noise == "recorrupted" else 0.0,
            amsgrad=settings.amsgrad,
            weight_decay=settings.weight_decay,
            product=product,
            tiles=tiles,
        )

    @property
    def whole(self) -> "Plan":
        """The plan of one pass over the whole image."""
        return replace(self, height=self.image_height, width=self.image_width, samples=1)

    @property
    def cropped(self) -> bool:
        return (self.height, self.width) != (self.image_height, self.image_width)

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def colours(self) -> int:
        return self.channels[0]

    @property
    def convolutions(self) -> int:
        return len(self.channels) - 1

    @property
    def size(self) -> int:
        """P, the weights of one network."""
        return self.matrix(self.convolutions + 1)

    @property
    def stride(self) -> int:
        """Elements from one network's packed weights to the next's, so that rows stay aligned."""
        return _cut(self.size, 64) * 64

    def taps(self, layer: int) -> int:
        """Taps of a convolution's kernel."""
        return self.kernels[layer - 1]

    def entries(self, layer: int) -> int:
        """Rows of a convolution's matrix without that of the biases: (tap, channel in)."""
        return self.taps(layer) * self.channels[layer - 1]

    def matrix(self, layer: int) -> int:
        """Where a convolution's matrix begins among the weights."""
        return sum((self.entries(i) + 1) * self.channels[i] for i in range(1, layer))

    def hidden(self, layer: int) -> int:
        """Where a convolution's outputs begin among those of one sample; layer 0 is the input."""
        return self.pixels * sum(self.channels[:layer])

    @property
    def gradient(self) -> int:
        """Elements of one gradient with respect to a layer's outputs."""
        return self.pixels * max(self.channels)

    def drops(self, layer: int) -> bool:
        """Whether dropout follows a convolution."""
        return layer in self.dropout

    def unit_words(self, layer: int) -> int:
        """32-bit words of dropout's bits: 16 channels of two pixels a word."""
        return _cut(self.channels[layer], 16) * (self.pixels + self.pixels % 2) // 2

    def units(self, layer: int) -> int:
        """Where a layer's words begin among those of one sample."""
        return sum(self.unit_words(i) for i in self.dropout if i < layer)

    @property
    def steps(self) -> int:
        """Places in the schedule and in each image's losses."""
        return STEPS

    @property
    def pixel_tiles(self) -> int:
        return _cut(self.pixels, self.tiles.pixels)

    @property
    def spans(self) -> int:
        return _cut(self.pixels, self.tiles.span)

    @property
    def mask_tiles(self) -> int:
        """Programs that draw the loss mask of one sample."""
        return _cut(self.pixels, 4 * self.tiles.blocks)

    @property
    def weight_tiles(self) -> int:
        return _cut(self.size, self.tiles.weights)

    @property
    def draw_tiles(self) -> int:
        """Programs that draw everything of one sample."""
        words = [self.unit_words(layer) for layer in self.dropout]
        return _cut(max([self.colours * self.pixels, *words]), 4 * self.tiles.blocks)

    def wide(self, channels: int) -> int:
        """Columns of a tile that holds so many channels."""
        return max(16, 1 << (int(channels) - 1).bit_length())

    def depth(self, rows: int) -> int:
        """Rows (tap, channel) that one product takes of so many."""
        return min(self.tiles.depth, self.wide(rows))

    def rows(self, layer: int) -> int:
        """Rows of a convolution's matrix whose gradient is summed at once."""
        return min(self.tiles.rows, self.wide(self.entries(layer) + 1))

    def row_tiles(self, layer: int) -> int:
        return _cut(self.entries(layer) + 1, self.rows(layer))

    def parts(self, layer: int) -> int:
        """Programs that sum the gradient of a convolution's matrix over one sample."""
        return self.row_tiles(layer) * self.spans


def _cut(elements: int, each: int) -> int:
    return -(-elements // each)
