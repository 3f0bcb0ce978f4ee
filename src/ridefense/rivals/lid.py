"""The detector of Ma et al., "Characterizing Adversarial Subspaces Using Local Intrinsic
Dimensionality" (ICLR 2018): a classifier that refuses, and the detector's training."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ridefense.errors import InputError, check_positive, check_share
from ridefense.gradients import GradientMode
from ridefense.logits import logits_of, name_of
from ridefense.noise import Id, Keys, derive
from ridefense.rivals.base import DefendedInside, Inside
from ridefense.rivals.learning import WEIGHTS, drawn_rows, load_weights, perturbed, pixels
from ridefense.rivals.training_digits import training_digits

SHIPPED = WEIGHTS / "mnist-lid.safetensors"
"""The regression trained on digits, for `mnist-cnn`; benchmarks/systems.py."""

LAYERS = 4
"""Of `mnist-cnn`: its three ReLUs and its logits."""


def lid(features: Tensor, references: Tensor, neighbours: int) -> Tensor:
    """Local intrinsic dimensionality by maximum likelihood (equation 4 of the paper), [N].

    -(mean over i of log(r_i / r_k))⁻¹, where r_1 … r_k are the distances to the k nearest
    references. A feature that is a reference itself must not be among them.

    Args:
        features: [N, D].
        references: [M, D], of a mini-batch of clean images.
        neighbours: k, below M.
    """
    distances = torch.cdist(features, references).clamp_min(1e-6)
    nearest = distances.topk(neighbours, dim=1, largest=False).values
    ratios = (nearest / nearest[:, -1:]).log().mean(dim=1)
    return -1 / ratios.clamp_max(-1e-6)


class LIDDetector(nn.Module):
    """A logistic regression on the LID of an image in each layer of a classifier.

    Attributes:
        references: images [M, C, H, W] of the mini-batch that LID is estimated in.
        weight: [layers].
        bias: a number; an image is refused where weight · LID + bias > 0.
        neighbours: k; 20 of 100 in the paper.
    """

    references: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, references: Tensor, layers: int = LAYERS, neighbours: int = 20) -> None:
        super().__init__()
        if not 1 < neighbours < len(references):
            raise InputError(
                f"neighbours is {neighbours} of {len(references)} references; use 2 or more, "
                "and fewer than there are"
            )
        self.neighbours = neighbours
        self.register_buffer("references", references, persistent=False)
        self.register_buffer("weight", torch.zeros(layers))
        self.register_buffer("bias", torch.zeros(()))

    def dimensions(self, layers: Sequence[Tensor], references: Sequence[Tensor]) -> Tensor:
        """LID [N, layers] of activations [N, D] of each layer, beside those of the references."""
        found = [
            lid(own, others, self.neighbours)
            for own, others in zip(layers, references, strict=True)
        ]
        return torch.stack(found, dim=1)

    def score(self, dimensions: Tensor) -> Tensor:
        """The log-odds [N] of being attacked, beyond the threshold."""
        return dimensions @ self.weight.to(dimensions) + self.bias.to(dimensions)


def activations(classifier: nn.Module, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """What each ReLU of a classifier gives, [N, D] each, with its logits last; and the logits.

    Raises:
        InputError: for a classifier without ReLU modules.
    """
    rectified = [m for m in classifier.modules() if isinstance(m, nn.ReLU | nn.ReLU6)]
    if not rectified:
        raise InputError(f"{name_of(classifier)} has no ReLU module; choose another classifier")
    seen: list[Tensor] = []

    def keep(_layer: nn.Module, _inputs: object, found: Tensor) -> None:
        seen.append(found.flatten(1))

    hooks = [layer.register_forward_hook(keep) for layer in rectified]
    try:
        logits = logits_of(classifier, images)
    finally:
        for hook in hooks:
            hook.remove()
    return [*seen, logits], logits


@dataclass(frozen=True)
class LID(Inside):
    """A classifier that refuses images whose activations have an unusual dimensionality.

    It has one logit more than the classifier, the last, which is the largest logit of a class plus
    the detector's score. PyTorch differentiates it.

    Attributes:
        detector: by `train_lid` or `load_lid`; by default the one that ships, for `mnist-cnn`.
    """

    detector: LIDDetector | None = None
    is_randomised = False

    def __post_init__(self) -> None:
        if not isinstance(self.detector, LIDDetector | None):
            raise InputError(f"detector is {self.detector!r:.60}; use load_lid(path)")

    def logits(self, classifier: nn.Module, images: Tensor, keys: Keys) -> Tensor:
        return self.beside(classifier, images, self.references_in(classifier, images))

    def references_in(self, classifier: nn.Module, images: Tensor) -> list[Tensor]:
        """The activations of the detector's references in each layer, for such images."""
        detector = self.detector or _shipped()
        if images.shape[1:] != detector.references.shape[1:]:
            raise InputError(
                f"images have shape {tuple(images.shape)}, the detector's references "
                f"{tuple(detector.references.shape)}; train one for such images by train_lid"
            )
        with torch.inference_mode(False), torch.no_grad():
            found, _ = activations(classifier, detector.references.to(images))
        if len(found) != len(detector.weight):
            raise InputError(
                f"{name_of(classifier)} has {len(found)} layers, the detector was trained on "
                f"{len(detector.weight)}; train one for this classifier by train_lid"
            )
        return found

    def beside(self, classifier: nn.Module, images: Tensor, references: list[Tensor]) -> Tensor:
        """Logits [N, classes + 1], given the activations of the references."""
        detector = self.detector or _shipped()
        layers, logits = activations(classifier, images)
        score = detector.score(detector.dimensions(layers, references))
        return torch.cat((logits, (logits.amax(dim=1) + score)[:, None]), dim=1)

    def behind(
        self, classifier: nn.Module, gradient: GradientMode | None = None, seed: int = 0
    ) -> "DefendedByLID":
        """The classifier that refuses; the classifier itself is not changed."""
        return DefendedByLID(classifier, self, gradient, seed)


class DefendedByLID(DefendedInside):
    """A classifier with a detector, whose last logit is that of a refusal."""

    purifier: LID
    _references: list[Tensor] | None = None

    @property
    def refuses(self) -> bool:
        return True

    def classified(self, purified: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
        if self._references is None:
            self._references = self.purifier.references_in(self.classifier, purified)
        return self.purifier.beside(self.classifier, purified, self._references)


def train_lid(
    classifier: nn.Module,
    images: Tensor,
    references: Tensor,
    *,
    eps: float,
    neighbours: int = 20,
    count: int = 1000,
    refused: float = 0.05,
    seed: int = 0,
) -> LIDDetector:
    """A detector of images attacked by FGSM among clean and noisy ones, as in the paper.

    Positive are the images that change their class under FGSM; negative are the clean ones, and
    those with Gaussian noise of the same ℓ2 norm. The threshold then refuses a given share of the
    clean ones.

    Args:
        classifier: pixels to logits; it is not changed.
        images: [N, C, H, W], uint8 or floats in [0, 1], none of the references.
        references: [M, C, H, W], floats in [0, 1].
        eps: ℓ∞ radius of FGSM.
        neighbours: k of LID.
        count: images that are drawn.
        refused: the share of clean images that is refused.
        seed: of the draw and the noise.

    Raises:
        InputError: where FGSM changes the class of no image.
    """
    check_positive("eps", eps)
    check_share("refused", refused)
    random = torch.Generator().manual_seed(derive(seed, "training"))
    clean = pixels(images[drawn_rows(images, count, random)])
    attacked = perturbed(classifier, clean, eps, 1)
    noise = torch.randn(clean.shape, generator=random)
    lengths = [torch.linalg.vector_norm(x.flatten(1), dim=1) for x in (attacked - clean, noise)]
    noisy = (clean + noise * (lengths[0] / lengths[1]).view(-1, 1, 1, 1)).clamp(0, 1)
    with torch.no_grad():
        others, _ = activations(classifier, references)
        detector = LIDDetector(references, len(others), neighbours)
        measured, predictions = [], []
        for shown in (clean, noisy, attacked):
            layers, logits = activations(classifier, shown)
            measured.append(detector.dimensions(layers, others))
            predictions.append(logits.argmax(dim=1))
    changed = predictions[2] != predictions[0]
    if not changed.any():
        raise InputError(f"eps is {eps}, at which FGSM changes no class; choose a larger one")
    learnt = torch.cat((*measured[:2], measured[2][changed]))
    wanted = torch.cat((torch.zeros(2 * count), torch.ones(int(changed.sum()))))
    detector.weight = _regression(learnt, wanted)
    scores = measured[0] @ detector.weight
    detector.bias = -scores.quantile(1 - refused)
    return detector.requires_grad_(False).eval()


def _regression(features: Tensor, wanted: Tensor) -> Tensor:
    """Weights [D] of a logistic regression of 0 or 1 [N] on features [N, D], both equally heavy."""
    mean, deviation = features.mean(dim=0), features.std(dim=0)
    scaled = ((features - mean) / deviation).double()
    weight = torch.zeros(features.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")
    balance = (wanted == 0).sum() / (wanted == 1).sum()

    def loss() -> Tensor:
        optimiser.zero_grad()
        errors = F.binary_cross_entropy_with_logits(
            scaled @ weight[:-1] + weight[-1], wanted.double(), pos_weight=balance.double()
        )
        found = errors + 1e-3 * weight[:-1].square().sum()
        torch.autograd.backward(found)
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]  # PyTorch does not annotate it
    return (weight[:-1].detach() / deviation).float()


def load_lid(path: str | os.PathLike[str] = SHIPPED) -> LIDDetector:
    """A detector beside the training digits, by default the one that ships.

    See `learning.load_weights`.
    """
    return load_weights(LIDDetector(training_digits()), path, "detector")


@lru_cache(maxsize=1)
def _shipped() -> LIDDetector:
    return load_lid()
