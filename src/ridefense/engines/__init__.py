"""How the fitting loop is executed: interchangeable engines under one contract.

An engine starts a `Fits`: N networks being fitted, one to each image. The loop in `estimate.py`
tells it which steps to run at which images, and when to estimate; every engine draws the same
random numbers (`noise.py`), so engines agree to rounding after a short run.
"""

import warnings

from torch import Tensor

from ridefense.engines import cuda, eager, native
from ridefense.engines.base import (
    Fits,
    Progress,
    Size,
    Start,
    fitted_size,
    image_size,
    initial_state,
)
from ridefense.errors import InputError, RideError
from ridefense.noise import Keys
from ridefense.settings import Settings

__all__ = [
    "Fits",
    "Progress",
    "Size",
    "Start",
    "fitted_size",
    "image_size",
    "initial_state",
    "start",
]


def start(settings: Settings, images: Tensor, keys: Keys) -> tuple[str, Fits]:
    """Start fits of N images with the engine that the settings ask for; its name, and they.

    "auto" takes the fastest engine that is installed and can do these settings. An engine that was
    named but cannot falls back to `eager` with a warning that says why. On a GPU "auto" warns too
    where Triton is missing or too old, or the `cuda` engine fails its check.

    Raises:
        InputError: where the named engine is not for the images' device.
        RideError: where `cuda` was named and fails its check on this GPU.
    """
    device = images.device.type
    for engine, own in (("native", "cpu"), ("cuda", "cuda")):
        if settings.engine == engine and device != own:
            raise InputError(
                f"engine {engine} is for images on {own}, not {images.device}; use auto"
            )
    named = settings.engine in ("native", "cuda")
    if device == "cpu" and settings.engine in ("auto", "native"):
        reason = native.unable(settings, images)
        if reason is None:
            return "native", native.NativeFits(settings, images, keys)
        if named:
            _fall_back("native", reason)
    if device == "cuda" and settings.engine in ("auto", "cuda"):
        lacks = cuda.missing()
        reason = lacks or cuda.unable(settings, images)
        if reason is None:
            failure = cuda.failure(settings, images)
            if failure is None:
                return "cuda", cuda.start(settings, images, keys)
            if named:
                raise RideError(f"engine cuda fails its check on this GPU ({failure}); use auto")
            _fall_back("cuda", f"it fails its check on this GPU: {failure}")
        elif named or lacks:
            _fall_back("cuda", reason)
    return "eager", eager.EagerFits(settings, images, keys)


def _fall_back(engine: str, reason: str) -> None:
    warnings.warn(f"engine {engine} is not used ({reason}); eager is", stacklevel=3)
