"""The GPU engine: Triton kernels for stacked networks, one CUDA graph a step or one launch a fit.

`fits.py` is the engine. `stacked.py` runs a step as a kernel a stage, captured as a graph, for
large images; `persistent.py` runs whole fits of small images in one kernel. Both are made of the
same tiles: `streams.py` draws, `convolution.py` convolves, `step.py` does the loss and Adam.
`plan.py` is what they are compiled for. `verification.py` compares the engine with eager before it
is used. Triton's interpreter runs all of it without a GPU.

This module itself needs no Triton, which is installed with PyTorch for CUDA only.
"""

from importlib import metadata
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ridefense.networks import Network

if TYPE_CHECKING:
    from ridefense.engines.cuda.fits import CudaFits
    from ridefense.noise import Keys
    from ridefense.settings import Settings

_WIDEST = 128
OLDEST_TRITON = (3, 5)
"""3.4 cannot compile the kernels."""


def missing() -> str | None:
    """What an installation lacks for this engine; None where it lacks nothing."""
    oldest = ".".join(map(str, OLDEST_TRITON))
    try:
        triton = metadata.version("triton")
    except metadata.PackageNotFoundError:
        return f"Triton is not installed; install PyTorch for CUDA, or Triton {oldest}"
    if tuple(map(int, triton.split(".")[:2])) < OLDEST_TRITON:
        return f"Triton {triton} is too old; install PyTorch with Triton {oldest} or newer"
    return None


def unable(settings: "Settings", images: Tensor) -> str | None:
    """Why this engine cannot fit these images on a GPU; None where it can."""
    if images.device.type == "cuda":
        if torch.version.cuda is None:
            return "it is for NVIDIA GPUs"
        if torch.cuda.get_device_capability(images.device) < (8, 0):
            return "it needs a GPU of compute capability 8.0 or more"
    if images.dtype != torch.float32:
        return f"images are {images.dtype}, not float32"
    if type(settings.network) is not Network:
        return f"a {type(settings.network).__name__} is not a chain of convolutions"
    if max(settings.network.channels) > _WIDEST:
        return f"a layer is wider than {_WIDEST} channels"
    return None


def failure(settings: "Settings", images: Tensor) -> str | None:
    """Why its results on this GPU are not to be trusted; None where they are.

    The engine is compared with eager before the first fit of a kind, see `verification.py`.
    """
    from ridefense.engines.cuda import verification

    return verification.failure(settings, images)


def start(settings: "Settings", images: Tensor, keys: "Keys") -> "CudaFits":
    """Start fits of images on a GPU, where it is `unable` to do nothing of them."""
    from ridefense.engines.cuda.fits import CudaFits

    return CudaFits(settings, images, keys)
