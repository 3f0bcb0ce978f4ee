"""The perturbation rectifying network of Akhtar, Liu & Mian, "Defense against Universal Adversarial
Perturbations" (CVPR 2018), with its detector, and their training."""

import copy
import math
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
from ridefense.rivals.adaptation import predicted
from ridefense.rivals.learning import (
    WEIGHTS,
    Progress,
    drawn_rows,
    initialised,
    load_weights,
    minimise,
    pixels,
)

SHIPPED = WEIGHTS / "mnist-rectifier.safetensors"
"""Weights trained on digits, before `mnist-cnn`; benchmarks/systems.py."""


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = F.relu(features + self.layers(features))
        return found


class RectifyingNetwork(nn.Module):
    """The rectifier, images to images [N, C, H, H], and the detector of perturbed images.

    Args:
        channels: C.
        side: H; the detector reads the spectrum of such images.
        width: channels of the features.
        blocks: residual ones; 5 in the paper.
    """

    def __init__(self, channels: int = 1, side: int = 28, width: int = 8, blocks: int = 2) -> None:
        super().__init__()
        self.rectifier = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            *(ResidualBlock(width) for _ in range(blocks)),
            nn.Conv2d(width, channels, 3, padding=1),
        )
        self.detector = nn.Linear(channels * side * side, 1)
        self.shape = (channels, side, side)

    def forward(self, images: Tensor) -> Tensor:
        """Rectified images, which may leave [0, 1]."""
        found: Tensor = images + self.rectifier(images)
        return found

    def score(self, images: Tensor, rectified: Tensor) -> Tensor:
        """The detector's score [N], positive for images that it takes for perturbed."""
        found: Tensor = self.detector(spectrum(rectified - images).flatten(1))
        return found[:, 0]


def spectrum(images: Tensor) -> Tensor:
    """log |DCT| of each plane of images [N, C, H, H], by the orthonormal DCT-II."""
    side = images.shape[-1]
    place = torch.arange(side, dtype=images.dtype, device=images.device)
    basis = torch.cos(math.pi / side * (place + 0.5) * place[:, None]) * math.sqrt(2 / side)
    basis[0] /= math.sqrt(2)
    coefficients: Tensor = basis @ images @ basis.T
    return (coefficients.abs() + 1e-3).log()


@dataclass(frozen=True)
class PerturbationRectifier(Filter):
    """Images that a detector takes for perturbed, rectified; others as they are.

    The rectifier was trained in front of a classifier on images under universal perturbations, so
    that the classifier is right. PyTorch differentiates it; the detector's decision has no
    derivative.

    Attributes:
        network: by `train_rectifier` or `load_rectifier`; by default the one that ships, for the
            classifier `mnist-cnn`.
        detects: whether the detector decides; otherwise every image is rectified.
    """

    network: RectifyingNetwork | None = None
    detects: bool = True
    is_local = False

    def __post_init__(self) -> None:
        if not isinstance(self.network, RectifyingNetwork | None):
            raise InputError(f"network is {self.network!r:.60}; use load_rectifier(path)")

    def apply(self, images: Tensor) -> Tensor:
        network = self.network or _shipped()
        if images.shape[1:] != network.shape:
            raise InputError(
                f"images have shape {tuple(images.shape)}, the rectifier is for {network.shape}; "
                "train one for such images by train_rectifier"
            )
        network = copy.deepcopy(network).to(images)
        rectified: Tensor = network(images)
        if not self.detects:
            return rectified
        perturbed = network.score(images, rectified) > 0
        return torch.where(perturbed.view(-1, 1, 1, 1), rectified, images)


def universal_perturbation(
    classifier: nn.Module, images: Tensor, *, eps: float, steps: int = 20, seed: int = 0
) -> Tensor:
    """One perturbation [1, C, H, W] within ±eps that changes the classes of many images.

    Ascent on the mean cross-entropy by the sign of its gradient, from a random start, with the
    images of a batch drawn anew in each step. The paper takes those of Moosavi-Dezfooli et al. 2017
    instead, made of a DeepFool step for each image.

    Args:
        classifier: pixels to logits.
        images: [N, C, H, W], floats in [0, 1].
        eps: ℓ∞ radius.
        steps: of the ascent; their length falls from eps/2 to 0.
        seed: of the start and the batches.
    """
    random = torch.Generator().manual_seed(derive(seed, "universal"))
    found = eps * (2 * torch.rand(images[:1].shape, generator=random) - 1)
    for step in range(steps):
        shown = images[drawn_rows(images, 64, random)]
        classes = predicted(classifier, shown)
        with torch.enable_grad():
            found.requires_grad_()
            loss = F.cross_entropy(logits_of(classifier, (shown + found).clamp(0, 1)), classes)
            (slope,) = torch.autograd.grad(loss, found)
        rate = eps / 2 * (1 - step / steps)
        found = (found + rate * slope.sign()).clamp(-eps, eps).detach()
    return found


def synthetic_perturbations(
    made: Tensor, count: int, *, eps: float, random: torch.Generator
) -> Tensor:
    """Perturbations [count, C, H, W] by random walks along given ones [M, C, H, W].

    Steps of random lengths along perturbations drawn from the given ones, until one pixel has moved
    by `eps` (algorithm 1 of the paper).
    """
    walked = torch.zeros(count, *made.shape[1:])
    going = torch.ones(count, dtype=torch.bool)
    while going.any():
        lengths = torch.rand(count, 1, 1, 1, generator=random)
        steps = lengths * made[drawn_rows(made, count, random)]
        walked = torch.where(going.view(-1, 1, 1, 1), walked + steps, walked)
        going &= walked.flatten(1).abs().amax(dim=1) < eps
    return walked.clamp(-eps, eps)


def train_rectifier(
    classifier: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    seed: int = 0,
    steps: int = 300,
    batch: int = 32,
    rate: float = 8e-3,
    perturbations: int = 8,
    progress: Progress | None = None,
) -> RectifyingNetwork:
    """A rectifier and its detector; see `learning.minimise`.

    The loss is the classifier's cross-entropy on rectified images, half of them clean and half
    under a synthetic universal perturbation. The detector, a logistic regression on the spectrum of
    what the rectifier changes, is learnt afterwards on other batches of both.

    Args:
        classifier: pixels to logits; it is not changed.
        images: [N, C, H, H], uint8 or floats in [0, 1].
        labels: int64 [N].
        eps: ℓ∞ radius of the perturbations.
        seed: of first weights, batches and perturbations.
        steps: of Adam.
        batch: images a step.
        rate: of Adam at the start.
        perturbations: universal ones that the synthetic ones are made of.
        progress: see `learning.Progress`.
    """
    check_positive("eps", eps)
    random = torch.Generator().manual_seed(derive(seed, "training"))
    clean = pixels(images)
    made = [
        universal_perturbation(classifier, clean, eps=eps, seed=derive(seed, "universal", i))
        for i in range(perturbations)
    ]
    universal = torch.cat(made)
    channels, side = images.shape[1], images.shape[2]
    network = initialised(lambda: RectifyingNetwork(channels, side), seed)
    network.detector.requires_grad_(False)

    def drawn(count: int) -> tuple[Tensor, Tensor]:
        """Images, the second half of them perturbed, and their rows."""
        rows = drawn_rows(clean, count, random)
        shown = clean[rows].clone()
        half = count // 2
        shown[half:] += synthetic_perturbations(universal, count - half, eps=eps, random=random)
        return shown.clamp(0, 1), rows

    def loss() -> Tensor:
        shown, rows = drawn(batch)
        return F.cross_entropy(logits_of(classifier, network(shown).clamp(0, 1)), labels[rows])

    minimise(network, loss, steps=steps, rate=rate, progress=progress)
    _learn_to_detect(network, drawn(1000)[0])
    return network


def _learn_to_detect(network: RectifyingNetwork, images: Tensor) -> None:
    """Fit the detector by logistic regression; the second half of the images is perturbed."""
    with torch.no_grad():
        spectra = spectrum(network(images) - images).flatten(1)
    wanted = torch.cat([torch.zeros(len(images) // 2), torch.ones(len(images) - len(images) // 2)])
    detector = network.detector.requires_grad_(True)

    def loss() -> Tensor:
        errors = F.binary_cross_entropy_with_logits(detector(spectra)[:, 0], wanted)
        return errors + 1e-2 * detector.weight.square().sum()

    minimise(network, loss, steps=200, rate=3e-3)


def load_rectifier(path: str | os.PathLike[str] = SHIPPED) -> RectifyingNetwork:
    """A rectifier of digits, by default the one that ships; see `learning.load_weights`."""
    return load_weights(RectifyingNetwork(), path, "rectifier")


@lru_cache(maxsize=1)
def _shipped() -> RectifyingNetwork:
    return load_rectifier()
