"""Estimates that lost their image: to a constant, or nearly so, or to shades of one colour.

A fit that collapses returns much the same pixel everywhere. One that loses the colours returns a
picture that a classifier may still get right, but not the image that it was given. docs/schedule.md
says how often that happens.
"""

import torch.nn.functional as F
from torch import Tensor

# Shares of the image's own contrast or colour.
_CONSTANT, _CONTRAST, _COLOUR = 0.1, 0.25, 0.2
# The colour of an image that is nearly grey, and the contrast of one that is nearly flat.
_GREY, _FLAT = 0.015, 0.015
_LEVEL = 0.1
_GRID = 8


def is_constant(images: Tensor, estimates: Tensor) -> Tensor:
    """Which estimates are nearly one number in all pixels and channels, bool [N].

    Their standard deviation is below a tenth of their image's.
    """
    spread = [batch.detach().flatten(1).std(dim=1, correction=0) for batch in (estimates, images)]
    return spread[0] < _CONSTANT * spread[1]


def is_collapsed(images: Tensor, estimates: Tensor) -> Tensor:
    """Which estimates lost the contrast or the colours of their image, or are not finite, bool [N].

    Both are measured on an 8×8 grid of means, where noise averages out. Contrast is the standard
    deviation of a channel over the grid: less than a quarter of the image's is too little. Colour
    is that of the channels' distances from their mean: less than a fifth of the image's is too
    little. An image that has next to none, of contrast or of colour (0.015), cannot lose it. The
    estimate of one without contrast, as a sky, is collapsed if it has another brightness or
    colour: its distance on the grid is above 0.1, root mean square.

    Args:
        images, estimates: [N, C, H, W].
    """
    images, estimates = images.detach(), estimates.detach()
    own = contrast(images)
    without_contrast = (own > _FLAT) & (contrast(estimates) < _CONTRAST * own)
    moved = (_coarse(estimates) - _coarse(images)).square().mean(dim=(1, 2, 3)).sqrt()
    displaced = (own <= _FLAT) & (moved > _LEVEL)
    own = colour(images)
    colourless = (own > _GREY) & (colour(estimates) < _COLOUR * own)
    broken = ~estimates.isfinite().flatten(1).all(dim=1)
    return without_contrast | displaced | colourless | broken


def contrast(images: Tensor) -> Tensor:
    """Standard deviation of a channel over the grid, root mean square of all channels: [N]."""
    return _deviation(_coarse(images))


def colour(images: Tensor) -> Tensor:
    """That of the channels' distances from their mean: [N]."""
    coarse = _coarse(images)
    return _deviation(coarse - coarse.mean(dim=1, keepdim=True))


def _coarse(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    return F.adaptive_avg_pool2d(images, (min(_GRID, height), min(_GRID, width)))


def _deviation(images: Tensor) -> Tensor:
    from_mean = images - images.mean(dim=(2, 3), keepdim=True)
    return from_mean.square().mean(dim=(1, 2, 3)).sqrt()
