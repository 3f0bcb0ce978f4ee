"""Adversarial training and its variants: which images a training step sees, and its loss.

Every variant attacks the network in training. The radius of its attacks grows to their eps during
the first half of the steps: a large one can leave nothing that is learnable, and the classifier at
chance.
"""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ridefense.attacks import Attack
from ridefense.describe import Plain, describe, describe_by_weights
from ridefense.errors import InputError, check_not_negative, check_positive
from ridefense.noise import derive


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
    """Attacked images in place of the clean ones (Madry et al. 2018).

    Attributes:
        attack: run in every step on the network in training: `PGD(eps=0.3, random_start=True)`, or
            for a fifth of the cost FGSM from a random start (Wong et al. 2020).

    Raises:
        InputError: for an attack whose eps is no setting, which could not grow.
    """

    attack: Attack

    def __post_init__(self) -> None:
        _check_radius("adversarial", self.attack)

    def grown(self, share: float) -> Self:
        """The same with attacks in a part of their balls."""
        return replace(self, attack=_grown(self.attack, share))

    def shown(
        self, network: nn.Module, images: Tensor, labels: Tensor, seed: int
    ) -> tuple[Tensor, Tensor]:
        """What the network learns from in a step.

        Args:
            network: pixels to logits, in eval mode.
            images: clean, [N, C, H, W] in [0, 1].
            labels: int64 [N].
            seed: of the attacks.

        Returns:
            Images [M, C, H, W] and their labels [M].
        """
        return self.attack(network, images, labels, seed=seed), labels

    def loss(self, logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        """Of the logits [M, classes] of what was shown: one number."""
        return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)


@dataclass(frozen=True, kw_only=True)
class LogitPairing(AdversarialTraining):
    """Adversarial logit pairing (Kannan et al. 2018, section 4): attacked images beside the clean
    ones, and a penalty on the distance between the logits of the two.

    The loss is that of mixed-minibatch adversarial training plus `pairing` times the mean squared
    difference of the logits. Engstrom et al. (2018) found that on ImageNet it leaves 0.6%.

    Attributes:
        pairing: weight of the penalty; 0.5 is the authors' for ImageNet.
        emphasis: weight of the cross-entropy of an attacked image, where that of a clean one is 1.
    """

    pairing: float = 0.5
    emphasis: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("pairing", self.pairing)
        check_positive("emphasis", self.emphasis)

    def shown(
        self, network: nn.Module, images: Tensor, labels: Tensor, seed: int
    ) -> tuple[Tensor, Tensor]:
        attacked = self._attacked(network, images, labels, seed)
        return torch.cat((images, attacked)), labels.repeat(2)

    def _attacked(self, network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        return self.attack(network, images, labels, seed=seed)

    def loss(self, logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        losses = functional.cross_entropy(
            logits, labels, label_smoothing=label_smoothing, reduction="none"
        )
        clean, attacked = (part.mean() for part in losses.chunk(2))
        before, after = logits.chunk(2)
        distance = functional.mse_loss(after, before)
        return (clean + self.emphasis * attacked) / (1 + self.emphasis) + self.pairing * distance


@dataclass(frozen=True, kw_only=True)
class Cascade(LogitPairing):
    """Cascade adversarial training with low-level similarity learning (Na et al. 2018).

    Half of the attacked images are made by one step on the network in training, the other half by
    iterations on a network that was defended before. The penalty (their bidirectional loss) keeps
    the embedding, which is the logits here, of an attacked image near that of the clean one.

    Attributes:
        attack: one step; the authors' is FGSM towards the least likely class.
        iterated: of several steps, on `source`; PGD without a random start is iterative FGSM.
        source: the defended network, pixels to logits.
        pairing: the authors' λ₂ of 1e-4, which weighs a sum over 64 images and 10 classes.
        emphasis: the authors' λ.
    """

    source: nn.Module
    iterated: Attack
    pairing: float = 0.064
    emphasis: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_radius("iterated", self.iterated)

    def grown(self, share: float) -> Self:
        return replace(super().grown(share), iterated=_grown(self.iterated, share))

    def described(self) -> Plain:
        """See `ridefense.describe`: the source is known by its weights."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "source"}
        plain = {name: describe(value) for name, value in own.items()}
        return {"type": "Cascade", **plain, "source": describe_by_weights(self.source)}

    def _attacked(self, network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        half = len(images) // 2
        one = self.attack(network, images[:half], labels[:half], seed=seed)
        own = derive(seed, "iterated")
        many = self.iterated(self.source, images[half:], labels[half:], seed=own)
        return torch.cat((one, many))


def _check_radius(name: str, attack: Attack) -> None:
    if not (is_dataclass(attack) and "eps" in {field.name for field in fields(attack)}):
        raise InputError(
            f"{name} is {type(attack).__name__}, whose eps cannot grow; use PGD or FGSM"
        )


def _grown(attack: Attack, share: float) -> Attack:
    """The attack in a part of its ball, by steps of that part."""
    settings: Any = attack  # a dataclass, see `_check_radius`
    grown = replace(settings, eps=share * attack.eps)
    length = getattr(attack, "step_size", None)
    if length is not None and grown.step_size == length:  # it does not follow eps by itself
        grown = replace(grown, step_size=share * length)
    return cast(Attack, grown)
