"""A small PixelCNN (van den Oord et al., ICML 2016) of digits: training and likelihoods."""

import math
import os
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ridefense.errors import InputError
from ridefense.noise import derive
from ridefense.rivals.learning import (
    WEIGHTS,
    Progress,
    drawn_rows,
    initialised,
    load_weights,
    minimise,
    pixels,
)

LEVELS = 16
"""Grey levels that the network tells apart: multiples of 1/15."""

WIDTH = 16
"""Channels of the hidden layers."""

DILATIONS = (1, 2, 4, 1, 2)
"""Of the residual blocks; with the first layer a pixel sees 13 pixels upwards and sideways."""

REFERENCE = 500
"""Training images whose likelihoods are kept with the weights."""

SHIPPED = WEIGHTS / "mnist-pixelcnn.safetensors"
"""Weights trained on digits by benchmarks/systems.py."""


class CausalConv(nn.Module):
    """A convolution of the pixels before each pixel, in raster order.

    Of a kernel × kernel window only the first taps in raster order have weights: those before the
    centre, and the centre itself where `centre` is true (masks A and B of the paper).

    Args:
        channels: of the input.
        features: of the output.
        kernel: odd side of the window.
        centre: whether the pixel itself is seen.
        dilation: distance between neighbouring taps.
    """

    def __init__(
        self, channels: int, features: int, kernel: int, *, centre: bool, dilation: int = 1
    ) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        taps = kernel * kernel // 2 + centre
        bound = 1 / math.sqrt(channels * taps)
        self.weight = nn.Parameter(torch.empty(features, channels, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(features))

    @property
    def reach(self) -> int:
        """How many pixels above and to each side the outermost taps are."""
        return self.kernel // 2 * self.dilation

    def offsets(self) -> list[tuple[int, int]]:
        """Rows and columns of the taps, relative to the pixel."""
        places = [divmod(tap, self.kernel) for tap in range(self.weight.shape[2])]
        half = self.kernel // 2
        return [((y - half) * self.dilation, (x - half) * self.dilation) for y, x in places]

    def forward(self, images: Tensor) -> Tensor:
        """Features [N, features, H, W] of images [N, channels, H, W]."""
        rows = self.kernel // 2 + 1  # those below have no taps
        missing = rows * self.kernel - self.weight.shape[2]
        taps = F.pad(self.weight, (0, missing))
        kernel = taps.view(*taps.shape[:2], rows, self.kernel)
        padded = F.pad(images, (self.reach, self.reach, self.reach, 0))
        return F.conv2d(padded, kernel, self.bias, dilation=self.dilation)


class PixelCNN(nn.Module):
    """Digits [N, 1, H, W] at `LEVELS` grey levels to logits of the level of each pixel.

    The logits [N, LEVELS, H, W] at a pixel depend on the pixels before it in raster order alone. A
    causal 7×7 convolution, residual 3×3 ones, and a head of two 1×1 layers: 7,424 weights.

    Attributes:
        reference: log-likelihoods [REFERENCE] of training images in nats, sorted; see
            `pixel_defend.p_values`.
    """

    reference: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = CausalConv(1, WIDTH, 7, centre=False)
        self.blocks = nn.ModuleList(
            CausalConv(WIDTH, WIDTH, 3, centre=True, dilation=dilation) for dilation in DILATIONS
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 1), nn.ReLU(), nn.Conv2d(WIDTH, LEVELS, 1)
        )
        self.register_buffer("reference", torch.zeros(REFERENCE))

    def forward(self, images: Tensor) -> Tensor:
        features = self.first(rounded(images))
        for block in self.blocks:
            features = features + block(features.relu())
        logits: Tensor = self.head(features)
        return logits

    def log_likelihood(self, images: Tensor) -> Tensor:
        """Log-probabilities [N], in nats, of images rounded to the levels."""
        losses = F.cross_entropy(self(images), level_of(images), reduction="none")
        return -losses.flatten(1).sum(dim=1)

    @torch.no_grad()
    def greedy(self, like: Tensor, least: Tensor, most: Tensor) -> Tensor:
        """The likeliest allowed level of each pixel, given the levels chosen before it.

        It takes about as long as a forward pass and its loop over pixels: a pixel's features are
        computed once, when the pixels before it are chosen.

        Args:
            like: images [N, 1, H, W], whose shape, dtype and device are taken.
            least: the lowest level allowed, int64 [N, 1, H, W].
            most: the highest level allowed, int64 [N, 1, H, W].

        Returns:
            Levels, int64 [N, H, W].
        """
        count, _, height, width = like.shape
        levels = torch.arange(LEVELS, device=like.device)[None, :, None, None]
        forbidden = (levels < least) | (levels > most)
        first = _Window(self.first, like)
        blocks = [_Window(cast(CausalConv, block), like) for block in self.blocks]
        chosen = torch.empty(count, height, width, dtype=torch.int64, device=like.device)
        for y in range(height):
            for x in range(width):
                features = first.features(y, x)
                for block in blocks:
                    block.put(y, x, features.relu())
                    features = features + block.features(y, x)
                logits = self.head(features[:, :, None, None])[:, :, 0, 0]
                logits = logits.masked_fill(forbidden[:, :, y, x], -torch.inf)
                chosen[:, y, x] = logits.argmax(dim=1)
                first.put(y, x, value_of(chosen[:, y, x, None]).to(like))
        return chosen


class _Window:
    """The input of a causal convolution, filled pixel by pixel, and its output at one of them."""

    def __init__(self, layer: CausalConv, like: Tensor) -> None:
        count, _, height, width = like.shape
        channels, self.reach = layer.weight.shape[1], layer.reach
        self.inputs = like.new_zeros(height + self.reach, width + 2 * self.reach, count, channels)
        self.weight = layer.weight.permute(2, 1, 0).flatten(0, 1).to(like)  # [taps·channels, …]
        self.bias = layer.bias.to(like)
        self.rows, self.columns = (
            torch.tensor(side, device=like.device) + self.reach
            for side in zip(*layer.offsets(), strict=True)
        )

    def put(self, y: int, x: int, values: Tensor) -> None:
        """Fill in the pixel's input, [N, channels]."""
        self.inputs[y + self.reach, x + self.reach] = values

    def features(self, y: int, x: int) -> Tensor:
        """The layer's output at the pixel, [N, features]."""
        seen = self.inputs[self.rows + y, self.columns + x]  # [taps, N, channels]
        return torch.addmm(self.bias, seen.transpose(0, 1).flatten(1), self.weight)


def level_of(images: Tensor) -> Tensor:
    """The nearest level of each pixel, int64 [N, H, W], of images [N, 1, H, W]."""
    return (images[:, 0].clamp(0, 1) * (LEVELS - 1)).round().long()


def value_of(levels: Tensor) -> Tensor:
    """The pixel value in [0, 1] of each level, float32."""
    return levels / (LEVELS - 1)


def rounded(images: Tensor) -> Tensor:
    """Images with every pixel at its nearest level."""
    return value_of(level_of(images))[:, None].to(images)


def train_pixel_cnn(
    images: Tensor,
    *,
    seed: int = 0,
    steps: int = 400,
    batch: int = 32,
    rate: float = 8e-3,
    progress: Progress | None = None,
) -> PixelCNN:
    """A PixelCNN of images like these, by their likelihood; see `learning.minimise`.

    The reference likelihoods are those of images drawn from the same.

    Args:
        images: [N, 1, H, W], uint8 or floats in [0, 1].
        seed: of first weights and batches.
        steps: of Adam.
        batch: images a step.
        rate: of Adam at the start.
        progress: is told the loss in nats a pixel; see `learning.Progress`.

    Raises:
        InputError: for images of more than one channel.
    """
    if images.ndim != 4 or images.shape[1] != 1:
        raise InputError(f"images have shape {tuple(images.shape)}; pass [N, 1, H, W]")
    network = initialised(PixelCNN, seed)
    random = torch.Generator().manual_seed(derive(seed, "training"))

    def drawn(count: int) -> Tensor:
        return pixels(images[drawn_rows(images, count, random)])

    def loss() -> Tensor:
        shown = drawn(batch)
        return F.cross_entropy(network(shown), level_of(shown))

    minimise(network, loss, steps=steps, rate=rate, progress=progress)
    with torch.no_grad():
        found = [network.log_likelihood(part) for part in torch.split(drawn(REFERENCE), 100)]
    network.reference = torch.cat(found).sort().values
    return network


def load_pixel_cnn(path: str | os.PathLike[str] = SHIPPED) -> PixelCNN:
    """A PixelCNN, by default the one that ships; see `learning.load_weights`."""
    return load_weights(PixelCNN(), path, "PixelCNN")
