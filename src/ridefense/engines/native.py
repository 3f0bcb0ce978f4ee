"""The CPU engine: float32 C++ that skips what ReLU, dropout and the loss's mask make zero.

It lives in a package of its own, `ridefense-native`, so that this one needs no compiler. Images are
spread over `threads.available()` threads, one image a thread at a time; a result depends on
nothing but (seed, id, settings) and the instruction set that the processor has.
"""

import importlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ridefense import threads
from ridefense.engines.base import Progress, Size, fitted_size, image_size, initial_state
from ridefense.errors import InputError, RideError
from ridefense.networks import Network
from ridefense.noise import Keys, Stream, binary_digits
from ridefense.settings import Settings

_INTERFACE = 2
"""Of the native package that this module calls."""


def unable(settings: Settings, images: Tensor) -> str | None:
    """Why this engine cannot fit these images so; None where it can."""
    network = settings.network
    hidden = network.channels[1:-1]
    try:
        most_channels, interface = _module().MOST_IMAGE_CHANNELS, _module().INTERFACE
    except ModuleNotFoundError:
        return "ridefense-native is not installed; pip install ./native in the folder of ridefense"
    except (ImportError, AttributeError) as error:
        told = str(error).partition("\n")[0]
        return f"ridefense-native is broken or of another version ({told}); install it anew"
    if interface != _INTERFACE:
        return f"ridefense-native has interface {interface}, not {_INTERFACE}; install it anew"
    if images.dtype != torch.float32:
        return f"it computes in float32, the images are {images.dtype}"
    if type(network) is not Network:
        return f"it fits chains of convolutions, the network is a {type(network).__name__}"
    if any(width % 16 for width in hidden):
        return f"its hidden widths are multiples of 16, the network's are {hidden}"
    if network.channels[0] > most_channels:
        return f"it takes up to {most_channels} image channels"
    return None


class _Plan(Protocol):
    """The native package's compile-time description of a fit."""

    workspace_bytes: int


class NativeFits:
    """N networks being fitted, see `engines.Fits`."""

    def __init__(self, settings: Settings, images: Tensor, keys: Keys) -> None:
        try:
            _module().isa()
        except ValueError as error:
            raise InputError(str(error)) from error
        self.settings, self.keys = settings, keys
        self.weights, self.moments = initial_state(settings, images, keys)

    def fit(
        self,
        x: Tensor,
        steps: range,
        rates: Sequence[float],
        start: int = 0,
        progress: Progress | None = None,
    ) -> Tensor:
        losses = torch.empty(len(x), len(steps), dtype=torch.float32, device="cpu")
        if not len(x) or not len(steps):
            return losses
        # Other arrays than before: whoever holds the weights so far keeps them as they are.
        weights, moments = (
            tensor.detach().clone(memory_format=torch.contiguous_format)
            for tensor in (self.weights, self.moments)
        )
        plan = self._plan(fitted_size(self.settings, x), x)
        with _memory(plan, len(x)):
            _module().fit(
                plan,
                self._keys(),
                _array(x),
                weights.numpy(),
                moments.numpy(),
                losses.numpy(),
                steps.start,
                np.array(rates, dtype=np.float64),
                start,
                threads.available(),
                progress,
            )
        self.weights, self.moments = weights, moments
        if progress:
            progress(losses.numel(), losses.numel())
        return losses

    def output(
        self,
        x: Tensor,
        step: int,
        samples: int,
        *,
        stream: Stream | None = Stream.OUTPUT,
        dropout: bool = False,
    ) -> Tensor:
        result = torch.empty(x.shape, dtype=torch.float32, device="cpu")
        if not len(x):
            return result
        plan = self._plan(image_size(x), x)
        with _memory(plan, len(x)):
            _module().expect(
                plan,
                self._keys(),
                _array(x),
                _array(self.weights),
                result.numpy(),
                step,
                int(Stream.OUTPUT if stream is None else stream),
                samples,
                dropout,
                threads.available(),
                noise=stream is not None,
            )
        return result

    def _keys(self) -> object:
        first, second = self.keys.philox
        return _module().Keys(first, self.keys.ids.tolist(), second.tolist())

    def _plan(self, size: Size, x: Tensor) -> _Plan:
        settings, network = self.settings, self.settings.network
        plan: _Plan = _module().plan(
            size=size,
            image_size=image_size(x),
            channels=network.channels,
            dropout_after=network.dropout_after,
            keep_digits=binary_digits(1 - network.dropout) if network.dropout else [],
            sigma=settings.sigmas,
            noisy_input=settings.noisy_input,
            noisy_target=settings.target_noise == "independent",
            sigmoid=network.sigmoid,
            norm_loss=settings.loss == "norm",
            amsgrad=settings.amsgrad,
            mask_bound=math.floor((1 - settings.mask_ratio) * 2**32),
            batch=settings.batch,
            weight_decay=settings.weight_decay,
            recorruption=settings.recorruption if settings.target_noise == "recorrupted" else 0.0,
            slope=network.slope,
            residual=network.residual,
            last_taps=network.taps[-1],
        )
        return plan


def _module() -> ModuleType:
    return importlib.import_module("ridefense_native")


@contextmanager
def _memory(plan: _Plan, images: int) -> Iterator[None]:
    """Say how much was asked for where there is not so much memory."""
    try:
        yield
    except MemoryError as error:
        count = min(images, threads.available())
        raise RideError(
            f"fits on {count} threads need {count * plan.workspace_bytes / 2**30:.1f} GB; "
            "set a crop, or fewer threads by torch.set_num_threads"
        ) from error


def _array(tensor: Tensor) -> "np.ndarray[Any, Any]":
    return tensor.detach().contiguous().numpy()
