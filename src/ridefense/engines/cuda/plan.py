"""What the kernels are compiled for, and the memory they work in.

Kernels take two arguments: a `State`, the device tensors, and a `Plan`, everything that is known
before a fit begins, as one compile-time constant. Weights are packed so that a convolution is one
matrix: rows are (tap, channel in), then one row of biases; columns are channels out.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ridefense.networks import Network, kept_share
from ridefense.noise import Keys, binary_digits
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
STEPS = 100  # the most steps between two looks at progress and interrupts


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
    """

    pixels: int = 128
    depth: int = 32
    rows: int = 128
    span: int = 2048
    blocks: int = 256
    weights: int = 1024


@dataclass(frozen=True)
class Plan:
    """Compile-time constants of one fit; a convolution's number counts from 1.

    Attributes:
        height, width: of what a step fits, the crop or the image.
        image_height, image_width: of the image.
        samples: noisy inputs a step.
        dropout: the convolutions that dropout follows.
        digits: binary digits of the share that it keeps.
        limit: a pixel is kept where its word is below this.
    """

    channels: tuple[int, ...]
    height: int
    width: int
    image_height: int
    image_width: int
    samples: int
    dropout: tuple[int, ...]
    digits: tuple[int, ...]
    share: float
    limit: int
    sigmoid: bool
    norm: bool
    noisy_input: bool
    noisy_target: bool
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
            height=crop[0],
            width=crop[1],
            image_height=size[0],
            image_width=size[1],
            samples=settings.batch,
            dropout=dropout,
            digits=tuple(binary_digits(1 - network.dropout)) if dropout else (),
            share=kept_share(network.dropout),
            limit=math.floor((1 - settings.mask_ratio) * 2**32),
            sigmoid=network.sigmoid,
            norm=settings.loss == "norm",
            noisy_input=settings.noisy_input,
            noisy_target=settings.noisy_target,
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

    def matrix(self, layer: int) -> int:
        """Where a convolution's matrix begins among the weights."""
        return sum((9 * self.channels[i] + 1) * self.channels[i + 1] for i in range(layer - 1))

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
        return _cut(max(self.colours * self.pixels, *words), 4 * self.tiles.blocks)

    def wide(self, channels: int) -> int:
        """Columns of a tile that holds so many channels."""
        return max(16, 1 << (channels - 1).bit_length())

    def depth(self, channels: int) -> int:
        """Rows (tap, channel) that one product takes of so many channels' 9 taps."""
        return min(self.tiles.depth, self.wide(9 * channels))

    def rows(self, layer: int) -> int:
        """Rows of a convolution's matrix whose gradient is summed at once."""
        return min(self.tiles.rows, self.wide(9 * self.channels[layer - 1] + 1))

    def row_tiles(self, layer: int) -> int:
        return _cut(9 * self.channels[layer - 1] + 1, self.rows(layer))


class State(NamedTuple):
    """The device tensors of N fits; S samples of D = H·W pixels a step, of P weights each.

    A step's activations and gradients are channels-last, and only valid within the step.
    """

    weights: Tensor  # float32 [N, stride], packed
    operands: Tensor  # [N, stride], the same as the products take them
    moments: Tensor  # float32 [N, 3, stride], packed
    keys: Tensor  # int64 [N, 2]: seed and attempt, image id
    clock: Tensor  # int64 [2]: the step, and its place in `schedule` and `losses`
    schedule: Tensor  # float32 [STEPS, 2]: rate over one bias correction, 1 over the other's root
    losses: Tensor  # float32 [N, STEPS]
    x: Tensor  # float32 [N, C, image height, image width]
    sigma: Tensor  # float32 [C]
    output: Tensor  # float32 [N, C, image height, image width]
    kept: Tensor  # int8 [N, S, D], the loss mask
    counts: Tensor  # int32 [N, S, mask tiles], pixels that it keeps
    units: Tensor  # int32 [N, S, words], dropout's bits
    hidden: Tensor  # [N, S, D·Σ channels], the network's input and every layer's outputs
    gradients: Tensor  # [N, S, 2, D·max channels], of odd and of even layers' outputs
    squares: Tensor  # float32 [N, S, pixel tiles], the loss before division
    scale: Tensor  # float32 [N], from the sums in `partial` to the gradient of the loss
    partial: Tensor  # float32 [N, S·spans, stride]

    @classmethod
    def allocate(
        cls,
        plan: Plan,
        weights: Tensor,
        moments: Tensor,
        keys: Keys,
        sigma: tuple[float, ...],
        dtype: torch.dtype,
    ) -> "State":
        """Memory for fits that start from packed weights [N, stride] and moments [N, 3, stride]."""
        count, device, both = len(weights), weights.device, (plan, plan.whole)

        def scratch(dtype: torch.dtype, each: str) -> Tensor:
            # A step and a pass over the whole image take turns in one memory.
            return torch.empty(count, max(_sizes(p)[each] for p in both), dtype=dtype, device=device)

        weights = weights.float().contiguous()
        image = (count, plan.colours, plan.image_height, plan.image_width)
        return cls(
            weights=weights,
            operands=weights if dtype == torch.float32 else weights.to(dtype),
            moments=moments.float().contiguous(),
            keys=torch.stack((keys.attempts << 32 | keys.seed, keys.ids), dim=1),
            clock=torch.zeros(2, dtype=torch.int64, device=device),
            schedule=torch.zeros(STEPS, 2, device=device),
            losses=torch.zeros(count, STEPS, device=device),
            x=torch.empty(image, device=device),
            sigma=torch.tensor(sigma, dtype=torch.float32, device=device),
            output=torch.empty(image, device=device),
            kept=scratch(torch.int8, "kept"),
            counts=scratch(torch.int32, "counts"),
            units=scratch(torch.int32, "units"),
            hidden=scratch(dtype, "hidden"),
            gradients=scratch(dtype, "gradients"),
            squares=scratch(torch.float32, "squares"),
            scale=torch.empty(count, device=device),
            partial=scratch(torch.float32, "partial"),
        )


@cache
def packing(network: Network) -> tuple[Tensor, Tensor]:
    """Orders of the P weights: packed = weights[:, first], weights = packed[:, second]."""
    parts, before = [], 0
    for c_in, c_out in network.convolutions:
        kernel = 9 * c_in * c_out
        index = torch.arange(before, before + kernel).view(c_out, c_in, 9)
        parts += [index.permute(2, 1, 0).flatten(), torch.arange(before + kernel, before + kernel + c_out)]
        before += kernel + c_out
    packed = torch.cat(parts)
    return packed, packed.argsort()


def _sizes(plan: Plan) -> dict[str, int]:
    """Elements of each scratch tensor, one image."""
    one = {
        "kept": plan.pixels,
        "counts": plan.mask_tiles,
        "units": max(1, plan.units(plan.convolutions)),
        "hidden": plan.hidden(plan.convolutions),
        "gradients": 2 * plan.gradient,
        "squares": plan.pixel_tiles,
        "partial": plan.spans * plan.stride,
    }
    return {name: plan.samples * elements for name, elements in one.items()}


def _cut(elements: int, each: int) -> int:
    return -(-elements // each)
