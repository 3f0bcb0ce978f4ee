"""How the fitting loop is executed: interchangeable engines under one contract.

An engine starts a `Fits`: N networks being fitted, one to each image. The loop in `estimate.py`
tells it which steps to run at which images, and when to estimate; every engine draws the same
random numbers (`noise.py`), so engines agree to rounding after a short run.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ridefense.errors import InputError, RideError
from ridefense.noise import Keys, Stream

if TYPE_CHECKING:
    from ridefense.settings import Settings

Progress = Callable[[int, int], None]
"""Called with the image-steps done and their total while a `fit` runs."""


Size = tuple[int, int]
"""Height and width."""


class Fits(Protocol):
    """N networks being fitted; x is always in the units that the networks work in."""

    @property
    def weights(self) -> Tensor:
        """[N, P], see `networks.py`."""

    @property
    def moments(self) -> Tensor:
        """Adam's, [3, N, P]: first, second, and the running maximum of the second."""

    @moments.setter
    def moments(self, moments: Tensor) -> None: ...

    def fit(
        self,
        x: Tensor,
        steps: range,
        rates: Sequence[float],
        start: int = 0,
        progress: Progress | None = None,
    ) -> Tensor:
        """Run these global steps at x [N, C, H, W], each at its learning rate.

        `start` is the step at which Adam's state was last zero. Returns losses [N, len(steps)].
        """

    def output(
        self,
        x: Tensor,
        step: int,
        samples: int,
        *,
        stream: Stream = Stream.OUTPUT,
        dropout: bool = False,
    ) -> Tensor:
        """E_z h(z; w) from that many samples of a stream, [N, C, H, W] (Eq. 6)."""


Start = Callable[["Settings", Tensor, Keys], tuple[str, Fits]]
"""Starts fits of images [N, C, H, W], in the units that the networks work in: a name, and they."""


def start(settings: "Settings", images: Tensor, keys: Keys) -> tuple[str, Fits]:
    """Start fits of N images with the engine that the settings ask for; its name, and they.

    "auto" takes the fastest engine that is installed and can do these settings. An engine that was
    named but cannot falls back to `eager` with a warning that says why. On a GPU "auto" warns too
    where Triton is missing or too old, or the `cuda` engine fails its check.

    Raises:
        InputError: where the named engine is not for the images' device.
        RideError: where `cuda` was named and fails its check on this GPU.
    """
    from ridefense.engines import cuda, eager, native

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


def image_size(images: Tensor) -> Size:
    """Of images [..., H, W]."""
    height, width = images.shape[-2:]
    return height, width


def fitted_size(settings: "Settings", images: Tensor) -> Size:
    """Of what a step fits: the crop, or the whole image."""
    return (settings.crop, settings.crop) if settings.crop else image_size(images)


def initial_state(settings: "Settings", images: Tensor, keys: Keys) -> tuple[Tensor, Tensor]:
    """The weights [N, P] and zero moments [3, N, P] that every engine starts from."""
    weights = settings.network.init(keys, settings.init).to(images)
    return weights, torch.zeros(3, *weights.shape, dtype=weights.dtype, device=weights.device)
