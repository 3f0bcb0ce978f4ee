"""The CPU engine: float32 C++ that skips what ReLU, dropout and the loss's mask make zero.

It lives in a package of its own, `ridefense-native`, so that this one needs no compiler. Images are
spread over `threads.available()` threads, one image a thread at a time; a result depends on
nothing but (seed, id, settings) and the instruction set that the processor has.
"""

import math
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from ridefense import threads
from ridefense.engines import Progress, initial_state
from ridefense.errors import InputError
from ridefense.networks import Network
from ridefense.noise import Keys, Stream, binary_digits
from ridefense.settings import Settings

_MOST_CHANNELS, _MOST_LAYERS = 16, 64


def unable(settings: Settings, images: Tensor) -> str | None:
    """Why this engine cannot fit these images so; None where it can."""
    network = settings.network
    hidden = network.channels[1:-1]
    if _module() is None:
        return "ridefense-native is not installed; pip install ./native in the folder of ridefense"
    if images.dtype != torch.float32:
        return f"it computes in float32, the images are {images.dtype}"
    if type(network) is not Network:
        return f"it fits chains of convolutions, the network is a {type(network).__name__}"
    if any(width % 16 for width in hidden):
        return f"its hidden widths are multiples of 16, the network's are {hidden}"
    if len(hidden) > _MOST_LAYERS or network.channels[0] > _MOST_CHANNELS:
        return f"it takes up to {_MOST_LAYERS} hidden layers and {_MOST_CHANNELS} image channels"
    return None


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
        native = _module()
        losses = torch.empty(len(x), len(steps))
        if not len(x) or not len(steps):
            return losses
        # Other arrays than before: whoever holds the weights so far keeps them as they are.
        weights, moments = (
            tensor.detach().clone(memory_format=torch.contiguous_format)
            for tensor in (self.weights, self.moments)
        )
        crop = self.settings.crop
        size = (crop, crop) if crop else tuple(x.shape[-2:])
        native.fit(
            self._plan(size, x),
            self._keys(),
            _array(x),
            weights.numpy(),
            moments.numpy(),
            losses.numpy(),
            steps.start,
            torch.tensor(list(rates), dtype=torch.float64).numpy(),
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
        stream: Stream = Stream.OUTPUT,
        dropout: bool = False,
    ) -> Tensor:
        result = torch.empty(x.shape)
        if len(x):
            _module().expect(
                self._plan(tuple(x.shape[-2:]), x),
                self._keys(),
                _array(x),
                _array(self.weights),
                result.numpy(),
                step,
                int(stream),
                samples,
                dropout,
                threads.available(),
            )
        return result

    def narrow(self, rows: Tensor) -> None:
        self.keys = Keys(self.keys.seed, self.keys.ids[rows], self.keys.attempts[rows])
        self.weights, self.moments = self.weights[rows], self.moments[:, rows]

    def _keys(self):
        return _module().Keys(self.keys.seed, self.keys.ids.tolist(), self.keys.attempts.tolist())

    def _plan(self, size: tuple[int, int], x: Tensor):
        settings, network = self.settings, self.settings.network
        return _module().plan(
            size=size,
            image_size=tuple(x.shape[-2:]),
            channels=network.channels,
            dropout_after=network.dropout_after,
            keep_digits=binary_digits(1 - network.dropout) if network.dropout else [],
            sigma=settings.sigmas,
            noisy_input=settings.noisy_input,
            noisy_target=settings.noisy_target,
            sigmoid=network.sigmoid,
            norm_loss=settings.loss == "norm",
            amsgrad=settings.amsgrad,
            mask_bound=math.floor((1 - settings.mask_ratio) * 2**32),
            batch=settings.batch,
            weight_decay=settings.weight_decay,
        )


def _module() -> ModuleType | None:
    try:
        import ridefense_native
    except ModuleNotFoundError:
        return None
    return ridefense_native


def _array(tensor: Tensor):
    return tensor.detach().contiguous().numpy()
