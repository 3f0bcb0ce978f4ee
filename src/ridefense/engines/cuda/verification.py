"""The engine's check of itself: some steps beside eager on the same device.

Kernels are compiled for a card, a driver and a version of Triton that they may never have run on.
So before the first fit of each kind in a process the engine is compared with eager, and with a
repeat of itself. What was found is kept on disk, by all that decides it.
"""

import ctypes
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from ridefense.engines.base import Size, image_size
from ridefense.engines.cuda.fits import CudaFits, plan_of
from ridefense.engines.cuda.plan import Tiles
from ridefense.engines.eager import EagerFits
from ridefense.errors import RideError
from ridefense.files import write_atomically
from ridefense.noise import Keys
from ridefense.settings import Settings

TOLERANCES = {"float32": 1e-4, "tf32": 5e-2, "float16": 5e-2, "bfloat16": 1.5e-1}
"""Of an error relative to the norm of what was expected, by the precision of the operands.

Coarse operands flip a few ReLUs, which shows in gradients far above the rounding itself.
"""
# Of the weights, relative to how far they moved. Adam takes a step of full size along a gradient
# of any size, so where rounding flips the sign of a small one, a weight goes the other way.
_WEIGHTS = {"float32": 1e-2, "tf32": 0.5, "float16": 0.5, "bfloat16": 0.5}
# A larger image is verified by a part of it: eager in float64 takes much memory.
_LARGEST = 256
_RATE = 1e-3


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        errors: of losses, each layer's gradient, outputs and weights, relative to eager in float64.
        limits: what each of them has to be below.
        repeats: whether two runs of some steps, and one of an image alone, have the same bits.
    """

    errors: dict[str, float]
    limits: dict[str, float]
    repeats: bool

    @property
    def reason(self) -> str | None:
        """What is wrong; None where nothing is."""
        wrong = [
            f"the error of {name} is {value:.2g}, above {self.limits[name]:g}"
            for name, value in self.errors.items()
            if not value < self.limits[name]
        ]
        if not self.repeats:
            wrong.append("a repeat of the same steps has other bits")
        return ", ".join(wrong) or None


def examine(
    settings: Settings,
    size: Size,
    device: torch.device,
    *,
    precision: str = "float16",
    alone: bool | None = None,
    tiles: Tiles | None = None,
    steps: int = 20,
    repeated: int = 120,
) -> Finding:
    """Compare the engine with eager in float64, and with itself.

    Args:
        settings: of the fits; the learning rate and the first weights are the check's own.
        size: height and width of the images.
        precision, alone, tiles: as `CudaFits` takes them.
        steps: whose losses are compared.
        repeated: steps that are run three times, more than one launch takes.
    """
    settings = replace(settings, init="uniform")
    images = _images(settings, size).to(device)
    exact = images.double()

    def fits(count: int) -> CudaFits:
        own = images[:count]
        return CudaFits(settings, own, _keys(own), precision=precision, alone=alone, tiles=tiles)

    ours, oracle = fits(2), EagerFits(settings, exact, _keys(images))
    began = oracle.weights
    errors = {"the loss": _error(_fit(ours, images, range(1)), _fit(oracle, exact, range(1)))}
    parts = settings.network.parts
    sizes = [kernel + biases for kernel, biases in zip(parts[::2], parts[1::2], strict=True)]
    gradients = (torch.split(each.moments[0], sizes, dim=1) for each in (ours, oracle))
    for layer, pair in enumerate(zip(*gradients, strict=True), 1):
        errors[f"gradient {layer}"] = _error(*pair)
    for dropout in (False, True):
        value = ours.output(images, 1, 2, dropout=dropout)
        expected = oracle.output(exact, 1, 2, dropout=dropout)
        errors["the output with dropout" if dropout else "the output"] = _error(value, expected)
    later = range(1, steps)
    errors["later losses"] = _error(_fit(ours, images, later), _fit(oracle, exact, later))
    errors["the weights"] = _error(ours.weights - began, oracle.weights - began)
    first, second, one = fits(2), fits(2), fits(1)
    for each in (first, second, one):
        _fit(each, images[: len(each.keys)], range(repeated))
    repeats = torch.equal(first.weights, second.weights)
    repeats &= torch.equal(first.weights[:1], one.weights)
    limits = dict.fromkeys(errors, TOLERANCES[precision]) | {"the weights": _WEIGHTS[precision]}
    return Finding(errors, limits, repeats)


def failure(settings: Settings, images: Tensor) -> str | None:
    """Why the engine is not to be trusted with such images on their device; None where it is.

    The first fit of a kind in a process looks for a finding on the disk. Where there is none, the
    engine is examined, which takes some seconds.
    """
    height, width = (min(side, _LARGEST) for side in image_size(images))
    if settings.crop:
        settings = replace(settings, crop=min(settings.crop, height, width))
    kind = kind_of(settings, (height, width), images.device)
    if kind not in _reasons:
        _reasons[kind] = _reason(kind, settings, (height, width), images.device)
    return _reasons[kind] and f"{_reasons[kind]}; please report this with: {kind}"


_reasons: dict[str, str | None] = {}
"""What this process knows, by kind."""


def kind_of(settings: Settings, size: Size, device: torch.device) -> str:
    """All that decides what is compiled and how it runs, in one line."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no card"
    plan, alone = plan_of(settings, size)
    versions = f"PyTorch {torch.__version__}, Triton {metadata.version('triton')}"
    return f"{card}, CUDA driver {_driver()}, {versions}, kernels {_source()}, {alone=}, {plan}"


def _reason(kind: str, settings: Settings, size: Size, device: torch.device) -> str | None:
    path = findings_folder() / f"{hashlib.blake2b(kind.encode(), digest_size=12).hexdigest()}.json"
    try:
        found = json.loads(path.read_bytes())
        if found["kind"] == kind and isinstance(found["reason"], str | None):
            return found["reason"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or it is damaged
    try:
        reason = examine(settings, size, device).reason
    except Exception as error:  # whatever a compiler or a driver may raise
        told = str(error).strip().partition("\n")[0]
        return f"the check ended in {type(error).__name__}: {told:.200}"
    # A folder that cannot be written to costs the next process the check, no more.
    with suppress(RideError):
        write_atomically(path, json.dumps({"kind": kind, "reason": reason}, indent=1).encode())
    return reason


def findings_folder() -> Path:
    """Where findings are kept: below `XDG_CACHE_HOME`, by default `~/.cache`."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "ridefense", "cuda")


@cache
def _driver() -> int:
    """The driver's version, as CUDA counts it; 0 where there is none."""
    version = ctypes.c_int(0)
    with suppress(OSError):
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    return version.value


@cache
def _source() -> str:
    """A fingerprint of the kernels and of what launches them."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _images(settings: Settings, size: Size) -> Tensor:
    """Two images in the network's units, the same every time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, settings.network.channels[0], *size, generator=generator)
    return settings.normalisation.normalise(images) if settings.normalisation else images


def _keys(images: Tensor) -> Keys:
    return Keys.of(0, None, len(images), images.device)


def _fit(fits: CudaFits | EagerFits, images: Tensor, steps: range) -> Tensor:
    return fits.fit(images, steps, [_RATE] * len(steps))


def _error(value: Tensor, expected: Tensor) -> float:
    return float((value.double() - expected).norm() / expected.norm())
