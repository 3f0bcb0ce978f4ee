"""The networks that are fitted: Table 3's three and a U-Net, as functions of stacked weights.

A `Network` is a frozen description. Its weights for N images are one tensor [N, P], each row the
weights of one image's own network, layer after layer, [c_out, c_in, k, k] then [c_out]; k is 3, of
a last layer possibly 1. One forward pass evaluates all N networks, each on n inputs of its own.
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

    The paper's networks have the defaults; the last three settings are those of `Recorrupted`.

    Attributes:
        channels: of the image, of each hidden layer, of the image again.
        dropout_after: the convolutions, counted from 1, that dropout follows.
        dropout: its rate, 0 ≤ rate ≤ 0.996, kept in steps of 1/256.
        sigmoid: whether a sigmoid ends the network; so where pixels lie in (0, 1).
        slope: of the activation below zero, 0 ≤ slope < 1: 0 is ReLU, above it a leaky ReLU.
        residual: whether the layers predict what is to be subtracted from the network's input, so
            that h(z) = z - layers(z). Not with a sigmoid.
        last_kernel: side of the last convolution's kernel, 3 or 1.
    """

    channels: tuple[int, ...]
    dropout_after: tuple[int, ...] = ()
    dropout: float = 0.5
    sigmoid: bool = True
    slope: float = 0.0
    residual: bool = False
    last_kernel: int = 3

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
        if not 0 <= self.slope < 1:
            raise InputError(f"slope is {self.slope}; use a number from 0 to below 1")
        if self.residual and self.sigmoid:
            raise InputError("residual is True with a sigmoid; set sigmoid=False")
        if self.last_kernel not in (1, 3):
            raise InputError(f"last_kernel is {self.last_kernel!r}; use 1 or 3")
        last = len(self.convolutions) - 1
        if any(not 1 <= layer <= last for layer in self.dropout_after):
            raise InputError(f"dropout_after is {self.dropout_after}; use convolutions 1 to {last}")

    @property
    def convolutions(self) -> tuple[tuple[int, int], ...]:
        """(c_in, c_out) of each convolution."""
        return tuple(zip(self.channels, self.channels[1:], strict=False))

    @property
    def taps(self) -> tuple[int, ...]:
        """Positions that each convolution's kernel covers: 9, of a 1×1 kernel 1."""
        return (*(9 for _ in self.convolutions[1:]), self.last_kernel**2)

    @property
    def levels(self) -> tuple[int, ...]:
        """How often each convolution's image has been halved."""
        return (0,) * len(self.convolutions)

    @property
    def parts(self) -> tuple[int, ...]:
        """Elements of the weights' parts: of each convolution its kernel, then its biases."""
        sizes = zip(self.convolutions, self.taps, strict=True)
        return tuple(n for (c_in, c_out), taps in sizes for n in (taps * c_in * c_out, c_out))

    @property
    def size(self) -> int:
        """P, the number of weights and biases: 57,251 for ImageNet's."""
        return sum(self.parts)

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
        return layers.last(hidden, inputs)

    def init(self, keys: Keys, scheme: Init) -> Tensor:
        """Initial weights, float64 [N, P], biases as PyTorch sets them: U(±1/√fan_in).

        Args:
            scheme: of the kernels. "uniform", PyTorch's default, U(±1/√fan_in); "xavier",
                U(±√(6/(fan_in+fan_out))); "kaiming", U(±√(6/fan_in)), whatever the slope.
                "pretrained" draws nothing:
                every image starts from the same weights, fitted on other images (docs/schedule.md).

        Raises:
            InputError: where no pretrained weights of this network ship.
        """
        if scheme == "pretrained":
            return _pretrained(self).to(keys.ids.device).repeat(len(keys), 1)
        parts = []
        sizes = zip(self.convolutions, self.taps, strict=True)
        for layer, ((c_in, c_out), taps) in enumerate(sizes):
            kernel = taps * c_in * c_out
            bound = 1 / math.sqrt(taps * c_in)
            bounds = torch.full((kernel + c_out,), bound, dtype=torch.float64)
            if scheme == "xavier":
                bounds[:kernel] = math.sqrt(6 / (taps * (c_in + c_out)))
            elif scheme == "kaiming":
                bounds[:kernel] = math.sqrt(6 / (taps * c_in))
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
        return layers.last(hidden, inputs)


class _Layers:
    """The convolutions of N stacked networks during one forward pass."""

    def __init__(self, network: Network, weights: Tensor, keep: Keep | None) -> None:
        self.network, self.keep = network, keep
        self.parts = torch.split(weights, list(network.parts), dim=1)

    def convolution(self, layer: int, inputs: Tensor) -> Tensor:
        images, samples, c_in, height, width = inputs.shape
        kernel, bias = self.parts[2 * layer - 2 : 2 * layer]
        side = math.isqrt(self.network.taps[layer - 1])
        # Images side by side as groups of one convolution; the samples are its batch.
        grouped = inputs.transpose(0, 1).reshape(samples, images * c_in, height, width)
        outputs = F.conv2d(
            grouped,
            kernel.reshape(-1, c_in, side, side),
            bias.reshape(-1),
            padding=side // 2,
            groups=images,
        )
        return outputs.view(samples, images, -1, height, width).transpose(0, 1)

    def hidden(self, layer: int, inputs: Tensor) -> Tensor:
        sums, slope = self.convolution(layer, inputs), self.network.slope
        outputs = F.leaky_relu(sums, slope) if slope else sums.relu()
        rate = self.network.dropout
        if self.keep is None or rate == 0 or layer not in self.network.dropout_after:
            return outputs
        return outputs * self.keep(layer, *outputs.shape[2:]) / kept_share(rate)

    def last(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        """The network's output, from its last hidden layer and its own inputs."""
        outputs = self.convolution(len(self.network.convolutions), hidden)
        if self.network.residual:
            return inputs - outputs
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


def _residual(*channels: int) -> Network:
    return Network(
        channels=channels, dropout=0.0, sigmoid=False, slope=0.2, residual=True, last_kernel=1
    )


RESIDUAL: dict[NetworkName, Network] = {
    "mnist": _residual(1, 48, 48, 1),
    "cifar10": _residual(3, 48, 48, 3),
    "imagenet": _residual(3, 48, 48, 48, 3),
}
"""The networks of `Recorrupted`, by data set."""


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
    """The name of the network of `NETWORKS` or `RESIDUAL` with these channels.

    Raises:
        InputError: if there is none.
    """
    for name, known in (*NETWORKS.items(), *RESIDUAL.items()):
        if type(network) is Network and known.channels == network.channels:
            return name
    raise InputError(
        f"no preset is for channels {network.channels}; use a network of NETWORKS or RESIDUAL"
    )


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
