"""The high-level representation guided denoiser of Liao et al., "Defense against Adversarial
Attacks Using High-Level Representation Guided Denoiser" (CVPR 2018), and its training."""

import copy
import os
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ridefense.errors import InputError, check_positive
from ridefense.filters import Filter
from ridefense.logits import logits_of
from ridefense.noise import derive
from ridefense.rivals.learning import (
    WEIGHTS,
    Progress,
    drawn_rows,
    initialised,
    load_weights,
    minimise,
    perturbed,
    pixels,
)

SHIPPED = WEIGHTS / "mnist-guided-denoiser.safetensors"
"""Weights trained on digits, guided by `mnist-cnn`; benchmarks/systems.py."""


class DenoisingUNet(nn.Module):
    """Images [N, C, H, W] to what is to be subtracted from them: a U-Net of two scales.

    Args:
        channels: C.
        width: channels of the features at full resolution; twice as many at half of it.
    """

    def __init__(self, channels: int = 1, width: int = 8) -> None:
        super().__init__()
        self.fine = _convolutions(channels, width)
        self.coarse = _convolutions(width, 2 * width)
        self.deep = _convolutions(2 * width, 2 * width)
        self.merged = _convolutions(3 * width, width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.last.out_channels

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(images)
        deep = self.deep(self.coarse(F.avg_pool2d(fine, 2, ceil_mode=True)))
        up = F.interpolate(deep, fine.shape[2:], mode="bilinear")
        found: Tensor = self.last(self.merged(torch.cat((fine, up), dim=1)))
        return found


def _convolutions(channels: int, features: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, features, 3, padding=1), nn.ReLU())


@dataclass(frozen=True)
class GuidedDenoiser(Filter):
    """The image without what a network takes for the perturbation.

    The network was trained on attacked images so that the logits of a classifier become those of
    the clean image, whatever becomes of the pixels. PyTorch differentiates it.

    Attributes:
        network: by `train_guided_denoiser` or `load_guided_denoiser`; by default the one that
            ships, for the classifier `mnist-cnn`.
    """

    network: DenoisingUNet | None = None
    is_local = False

    def __post_init__(self) -> None:
        if not isinstance(self.network, DenoisingUNet | None):
            raise InputError(f"network is {self.network!r:.60}; use load_guided_denoiser(path)")

    def apply(self, images: Tensor) -> Tensor:
        network = self.network or _shipped()
        if images.shape[1] != network.channels:
            raise InputError(
                f"images have shape {tuple(images.shape)}, the denoiser is for {network.channels} "
                "channels; train one for such images by train_guided_denoiser"
            )
        perturbation: Tensor = copy.deepcopy(network).to(images)(images)
        return images - perturbation


def train_guided_denoiser(
    classifier: nn.Module,
    images: Tensor,
    *,
    eps: float,
    seed: int = 0,
    steps: int = 300,
    batch: int = 32,
    rate: float = 8e-3,
    width: int = 8,
    progress: Progress | None = None,
) -> DenoisingUNet:
    """A denoiser guided by a classifier's logits; see `learning.minimise`.

    The loss is the mean |f(x̂) - f(x)| of the logits, x̂ the denoised image: LGD of the paper. Each
    batch is attacked at a radius drawn up to `eps`, in turn by FGSM and by 4 steps of it, and a
    quarter of its images is left clean.

    Args:
        classifier: f, pixels to logits; it is not changed.
        images: [N, C, H, W], uint8 or floats in [0, 1].
        eps: the largest radius of the attacks.
        seed: of first weights, batches and radii.
        steps: of Adam.
        batch: images a step.
        rate: of Adam at the start.
        width: of the network.
        progress: see `learning.Progress`.
    """
    check_positive("eps", eps)
    network = initialised(lambda: DenoisingUNet(images.shape[1], width), seed)
    random = torch.Generator().manual_seed(derive(seed, "training"))
    done = 0

    def loss() -> Tensor:
        nonlocal done
        done += 1
        clean = pixels(images[drawn_rows(images, batch, random)])
        radius = eps * torch.rand(batch, 1, 1, 1, generator=random)
        radius[: batch // 4] = 0
        attacked = perturbed(classifier, clean, radius, 1 if done % 2 else 4)
        with torch.no_grad():
            wanted = logits_of(classifier, clean)
        denoised = (attacked - network(attacked)).clamp(0, 1)
        return (logits_of(classifier, denoised) - wanted).abs().mean()

    minimise(network, loss, steps=steps, rate=rate, progress=progress)
    return network


def load_guided_denoiser(path: str | os.PathLike[str] = SHIPPED) -> DenoisingUNet:
    """A denoiser of grey images, by default the one that ships; see `learning.load_weights`."""
    return load_weights(DenoisingUNet(), path, "denoiser")


@lru_cache(maxsize=1)
def _shipped() -> DenoisingUNet:
    return load_guided_denoiser()
