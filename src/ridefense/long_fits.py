"""How long fits will take, roughly, and a warning before the long ones."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ridefense import threads
from ridefense.engines import Size, native
from ridefense.errors import LongFitWarning
from ridefense.settings import Settings

_NATIVE, _EAGER = 4e11, 1e11
"""Operations a second of the native engine on one thread, and of PyTorch. docs/performance.md has
measurements; processors differ by a factor of a few."""

LONG = 60.0
"""Seconds from which on fits are announced."""

Fit = tuple[Settings, Size]
"""Settings, and height and width of an image that is fitted with them."""


def seconds(fits: Sequence[Fit], like: Tensor) -> float | None:
    """Roughly how long these fits take together, without refits; None on a GPU.

    Args:
        fits: one for each image.
        like: a tensor of the images' dtype and device.
    """
    if like.device.type != "cpu":
        return None
    own = spread = longest = 0.0
    for settings, size in fits:
        flops = settings.flops(*size)
        if settings.engine == "eager" or native.unable(settings, like) is not None:
            own += flops / _EAGER
        else:
            spread += flops / _NATIVE
            longest = max(longest, flops / _NATIVE)
    return own + max(spread / threads.available(), longest)


def warn_if_long(fits: Sequence[Fit], like: Tensor) -> None:
    """Warn before fits that take over a minute.

    Args:
        fits, like: as of `seconds`.
    """
    expected = seconds(fits, like)
    if expected is None or expected <= LONG:
        return
    most = max(settings.total_steps for settings, _ in fits)
    what = f"{len(fits)} fits" if len(fits) > 1 else "a fit"
    warnings.warn(
        f"{what} of {most:,} steps will take roughly {duration(expected)}; a preset with fewer "
        "steps, as 'fast', a smaller image or a GPU takes less, and a progress callback shows how "
        "far it is",
        LongFitWarning,
        stacklevel=3,
    )


def duration(seconds: float) -> str:
    """As "40 seconds", "7 minutes" or "3.5 hours"."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def like() -> Tensor:
    """A tensor as the images of files are: float32, on the processor."""
    return torch.empty(0)
