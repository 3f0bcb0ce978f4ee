"""Thermometer encoding of Buckman et al., "Thermometer Encoding: One Hot Way To Resist
Adversarial Examples" (ICLR 2018)."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from ridefense.errors import InputError, check_whole

_Sides = tuple[int, int]  # of a Conv2d, which PyTorch declares as of any length


class Thermometer(nn.Module):
    """Pixels [N, C, H, W] in [0, 1] to [N, C·levels, H, W]: channel k of a pixel is x > k/levels.

    Levels count from 1, so 0.66 in 10 levels is 1111110000. The derivative is the one by which
    Athalye et al. (2018) broke it, that of min(max(x - k/levels, 0), 1): 1 where x > k/levels.

    Args:
        levels: 16 in both papers.

    Raises:
        InputError: for less than 2.
    """

    thresholds: Tensor

    def __init__(self, levels: int = 16) -> None:
        super().__init__()
        check_whole("levels", levels, 2)
        thresholds = torch.arange(1, levels + 1) / levels
        self.register_buffer("thresholds", thresholds.view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        above = images.unsqueeze(2) - self.thresholds  # [N, C, levels, H, W]
        hard, soft = (above > 0).to(images.dtype), above.relu()
        return (hard + (soft - soft.detach())).flatten(1, 2)


def thermometer(build: Callable[[], nn.Module], levels: int = 16) -> nn.Sequential:
    """The network that `build` makes, with fresh weights, on thermometer-encoded pixels.

    Its first convolution takes `levels` channels for each that it took.

    Raises:
        InputError: where that is a convolution in groups, which would mix channels and levels.
    """
    network = build()
    name, first = next((name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if first.groups > 1:
        raise InputError(f"{name} has {first.groups} groups; use a network whose first has one")
    wider = nn.Conv2d(
        first.in_channels * levels,
        first.out_channels,
        cast(_Sides, first.kernel_size),
        stride=cast(_Sides, first.stride),
        padding=cast(str | _Sides, first.padding),
        dilation=cast(_Sides, first.dilation),
        padding_mode=first.padding_mode,
        bias=first.bias is not None,
    )
    network.set_submodule(name, wider)
    return nn.Sequential(Thermometer(levels), network)
