"""Hedge defence of Wu et al., "Attacking Adversarial Attacks as A Defense" (2021)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ridefense.errors import check_positive, check_whole
from ridefense.images import moving_with
from ridefense.logits import logits_of
from ridefense.noise import Keys, Stream
from ridefense.rivals.adaptation import InputAdaptation, in_ball, signed_steps


@dataclass(frozen=True)
class HedgeDefence(InputAdaptation):
    """The image, moved so that the losses of all classes rise.

    From a random point of the ℓ∞ ball, `steps` steps of x' ← Π(x' + `rate` · sign ∇ Σ_c
    CE(f(x'), c)), Π the projection onto the ball and [0, 1]. After adversarial training the true
    class is thought to change least, so that a false one falls first.

    Attributes:
        eps: radius of the ball; 8/255 in the paper on CIFAR-10, that of the attacks.
        steps: 20 in the paper. 0 leaves the bare classifier, without the random point.
        rate: length of a step; by default half of `eps`, as the paper's 4/255.
    """

    eps: float = 8 / 255
    steps: int = 20
    rate: float | None = None

    def __post_init__(self) -> None:
        check_positive("eps", self.eps)
        check_whole("steps", self.steps, 0)
        if self.rate is not None:
            check_positive("rate", self.rate)

    def move(self, classifier: nn.Module, images: Tensor, keys: Keys) -> Tensor:
        if self.steps == 0:
            return images.clone()
        onto = in_ball(images, self.eps)
        drawn = keys.uniform(Stream.FIXED, [0], images[0].numel()).view(images.shape).to(images)
        start = onto(moving_with(images + self.eps * (2 * drawn - 1), images))
        rate = self.eps / 2 if self.rate is None else self.rate
        return signed_steps(lambda at: total_loss(classifier, at), start, -rate, self.steps, onto)


def total_loss(classifier: nn.Module, images: Tensor) -> Tensor:
    """Σ_c CE(f(x), c) over all classes c, [N]."""
    return -torch.log_softmax(logits_of(classifier, images), dim=1).sum(dim=1)
