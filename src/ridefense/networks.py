"""The networks that are fitted: Table 3's three and a U-Net, as functions of stacked weights.

A `Network` is a frozen description. Its weights for N images are one tensor [N, P], each row the
weights of one image's own network, layer after layer, [c_out, c_in, 3, 3] then [c_out]. One
forward pass evaluates all N networks, each on n inputs of its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from ridefense.errors import InputError
from ridefense.names import NetworkName as NetworkName
from ridefense.noise import Keys, Stream, binary_digits

_DEEPEST = Stream.DROPOUT - Stream.INIT
"""Convolutions: a layer more would share its random numbers with another."""

Init = Literal["uniform", "xavier", "kaiming", "pretrained"]
Keep = Callable[[int, int, int, int], Tensor]
"""(convolution from 1, channels, height, width) to the units kept, bool [N, n, C, H, W]."""


@dataclass(frozen=True)
class Network:
    """A chain of 3×3 convolutions, stride 1, zero padding, ReLU after all but the last (Table 3).

    Attributes:
        channels: of the image, of each hidden layer, of the image again.
        dropout_after: the convolutions, counted from 1, that dropout follows.
        dropout: its rate, 0 ≤ rate ≤ 0.996, kept in steps of 1/256.
        sigmoid: whether a sigmoid ends the network; so where pixels lie in (0, 1).
    """

    channels: tuple[int, ...]
    dropout_after: tuple[int, ...] = ()
    dropout: float = 0.5
    sigmoid: bool = True

    def __post_init__(self) -> None:
        for name in ("channels", "dropout_after"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not all(isinstance(width, int) and width > 0 for width in self.channels):
            raise InputError(f"channels are {self.channels}; use whole numbers of at least 1")
        if len(self.channels) < 3:
            raise InputError(f"channels are {self.channels}; give at least one hidden layer")
        if len(self.convolutions) > _DEEPEST:
            raise InputError(
                f"channels make {len(self.convolutions)} convolutions; use at most {_DEEPEST}"
            )
        if self.channels[0] != self.channels[-1]:
            raise InputError(f"channels are {self.channels}; a network returns what it takes")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}; use a rate from 0 to below 1")
        if self.dropout:
            binary_digits(1 - self.dropout)
        last = len(self.convolutions) - 1
        if any(not 1 <= layer <= last for layer in self.dropout_after):
            raise InputError(f"dropout_after is {self.dropout_after}; use convolutions 1 to {last}")

    @property
    def convolutions(self) -> tuple[tuple[int, int], ...]:
        """(c_in, c_out) of each convolution."""
        return tuple(zip(self.channels, self.channels[1:], strict=False))

    @property
    def levels(self) -> tuple[int, ...]:
        """How often each convolution's image has been halved."""
        return (0,) * len(self.convolutions)

    @property
    def size(self) -> int:
        """P, the number of weights and biases: 57,251 for ImageNet's."""
        return sum(9 * c_in * c_out + c_out for c_in, c_out in self.convolutions)

    def forward(self, weights: Tensor, inputs: Tensor, keep: Keep | None = None) -> Tensor:
        """h(z; w) of N networks at once.

        Args:
            weights: [N, P].
            inputs: z, [N, n, C, H, W].
            keep: the units that dropout keeps, layer by layer; None switches dropout off.

        Returns:
            [N, n, C, H, W].
        """
        layers = _Layers(self, weights, keep)
        hidden = inputs
        for layer in range(1, len(self.convolutions)):
            hidden = layers.hidden(layer, hidden)
        return layers.last(hidden)

    def init(self, keys: Keys, scheme: Init) -> Tensor:
        """Initial weights, float64 [N, P], biases as PyTorch sets them: U(±1/√fan_in).

        Args:
            scheme: of the kernels. "uniform", PyTorch's default, U(±1/√fan_in); "xavier",
                U(±√(6/(fan_in+fan_out))); "kaiming", U(±√(6/fan_in)). "pretrained" draws nothing:
                every image starts from the same weights, fitted on other images (docs/schedule.md).

        Raises:
            InputError: where no pretrained weights of this network ship.
        """
        if scheme == "pretrained":
            return _pretrained(self).to(keys.ids.device).repeat(len(keys), 1)
        parts = []
        for layer, (c_in, c_out) in enumerate(self.convolutions):
            kernel = 9 * c_in * c_out
            bound = 1 / math.sqrt(9 * c_in)
            bounds = torch.full((kernel + c_out,), bound, dtype=torch.float64)
            if scheme == "xavier":
                bounds[:kernel] = math.sqrt(6 / (9 * (c_in + c_out)))
            elif scheme == "kaiming":
                bounds[:kernel] = math.sqrt(6 / (9 * c_in))
            draws = keys.uniform(Stream.INIT + layer, [0], kernel + c_out)[:, 0]
            parts.append((2 * draws - 1) * bounds.to(draws.device))
        return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class UNet(Network):
    """A small U-Net (Ronneberger et al. 2015) of the same 3×3 convolutions.

    The paper tried one, without its sizes, and found it about 8 points below the chain. Here
    `channels` are (image, width, 2·width, …, image): two convolutions a level, 2×2 max-pooling
    down, nearest-neighbour upsampling and skip connections up.
    """

    @property
    def convolutions(self) -> tuple[tuple[int, int], ...]:
        image, *widths, _ = self.channels
        down, previous = [], image
        for width in widths:
            down += [(previous, width), (width, width)]
            previous = width
        up = []
        for width in reversed(widths[:-1]):
            up += [(previous + width, width), (width, width)]
            previous = width
        return (*down, *up, (previous, image))

    @property
    def levels(self) -> tuple[int, ...]:
        deepest = len(self.channels) - 3
        down = [level for level in range(deepest + 1) for _ in range(2)]
        up = [level for level in reversed(range(deepest)) for _ in range(2)]
        return (*down, *up, 0)

    def forward(self, weights: Tensor, inputs: Tensor, keep: Keep | None = None) -> Tensor:
        layers = _Layers(self, weights, keep)
        levels = len(self.channels) - 2
        hidden, layer, skips = inputs, 1, []
        for level in range(levels):
            if level:
                skips.append(hidden)
                hidden = _per_image(F.max_pool2d, hidden, 2, ceil_mode=True)
            hidden = layers.hidden(layer + 1, layers.hidden(layer, hidden))
            layer += 2
        for skip in reversed(skips):
            hidden = _per_image(F.interpolate, hidden, size=skip.shape[-2:])
            hidden = torch.cat((hidden, skip), dim=2)
            hidden = layers.hidden(layer + 1, layers.hidden(layer, hidden))
            layer += 2
        return layers.last(hidden)


class _Layers:
    """The convolutions of N stacked networks during one forward pass."""

    def __init__(self, network: Network, weights: Tensor, keep: Keep | None) -> None:
        self.network, self.keep = network, keep
        sizes = [n for c_in, c_out in network.convolutions for n in (9 * c_in * c_out, c_out)]
        self.parts = torch.split(weights, sizes, dim=1)

    def convolution(self, layer: int, inputs: Tensor) -> Tensor:
        images, samples, c_in, height, width = inputs.shape
        kernel, bias = self.parts[2 * layer - 2 : 2 * layer]
        # Images side by side as groups of one convolution; the samples are its batch.
        grouped = inputs.transpose(0, 1).reshape(samples, images * c_in, height, width)
        outputs = F.conv2d(
            grouped, kernel.reshape(-1, c_in, 3, 3), bias.reshape(-1), padding=1, groups=images
        )
        return outputs.view(samples, images, -1, height, width).transpose(0, 1)

    def hidden(self, layer: int, inputs: Tensor) -> Tensor:
        outputs = self.convolution(layer, inputs).relu()
        rate = self.network.dropout
        if self.keep is None or rate == 0 or layer not in self.network.dropout_after:
            return outputs
        return outputs * self.keep(layer, *outputs.shape[2:]) / kept_share(rate)

    def last(self, inputs: Tensor) -> Tensor:
        outputs = self.convolution(len(self.network.convolutions), inputs)
        return outputs.sigmoid() if self.network.sigmoid else outputs


def kept_share(rate: float) -> float:
    """The share of units that dropout of this rate keeps, in the streams' steps of 1/256."""
    return round((1 - rate) * 256) / 256


def _per_image(
    function: Callable[..., Tensor], inputs: Tensor, *args: object, **kwargs: object
) -> Tensor:
    outputs = function(inputs.flatten(0, 1), *args, **kwargs)
    return outputs.reshape(*inputs.shape[:2], *outputs.shape[1:])


NETWORKS: dict[NetworkName, Network] = {
    "mnist": Network(channels=(1, 16, 16, 16, 1), dropout_after=(2, 3)),
    "cifar10": Network(channels=(3, 32, 32, 32, 32, 3), dropout_after=(2, 3)),
    "imagenet": Network(channels=(3, *(32,) * 7, 3), dropout_after=(4, 5, 6)),
}
"""Table 3, by data set."""


def name_for(shape: Sequence[int]) -> NetworkName:
    """The name of the network for images of this shape, [..., C, H, W].

    One channel: "mnist". Three: "cifar10" for 32×32 pixels, "imagenet" for any other size.

    Raises:
        InputError: for another number of channels.
    """
    channels, *size = shape[-3:]
    if channels == 1:
        return "mnist"
    if channels == 3:
        return "cifar10" if size == [32, 32] else "imagenet"
    raise InputError(
        f"images have {channels} channels; Table 3's networks take 1 or 3: give a network of yours"
    )


def name_of(network: Network) -> NetworkName:
    """The name of the network of Table 3 with these channels, whatever its dropout and output.

    Raises:
        InputError: if there is none.
    """
    for name, known in NETWORKS.items():
        if type(network) is Network and known.channels == network.channels:
            return name
    raise InputError(f"no preset is for channels {network.channels}; use a network of Table 3")


@lru_cache
def _pretrained(network: Network) -> Tensor:
    """The shipped weights of a network of Table 3, whatever its dropout: float64 [1, P]."""
    for name, known in NETWORKS.items():
        if network == replace(known, dropout=network.dropout):
            path = Path(__file__).parent / "weights" / "pretrained" / f"{name}.safetensors"
            return load_file(path)["weights"].double()[None]
    raise InputError(
        f"no pretrained weights of {network} ship; use init kaiming, or a network of "
        f"{', '.join(NETWORKS)}, which end in a sigmoid"
    )
