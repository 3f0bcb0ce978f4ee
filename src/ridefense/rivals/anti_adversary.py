"""The anti-adversary layer of Alfarra et al., "Combating Adversaries with Anti-Adversaries"
(AAAI 2022)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ridefense.errors import check_positive, check_whole
from ridefense.logits import logits_of
from ridefense.noise import Keys
from ridefense.rivals.adaptation import InputAdaptation, predicted, signed_steps


@dataclass(frozen=True)
class AntiAdversary(InputAdaptation):
    """The image, moved so that the class that it is given becomes surer.

    f(x + γ), where ŷ = argmax f(x) and γ is found by `steps` steps of γ ← γ - `rate` · sign
    ∇γ CE(f(x + γ), ŷ) from γ = 0. Nothing bounds γ but their number, and x + γ is not cut to
    [0, 1]. What the classifier gets wrong stays wrong.

    Attributes:
        rate: α; 0.15 in the paper on CIFAR-10.
        steps: K; 2 in the paper. 0 leaves the bare classifier.
    """

    rate: float = 0.15
    steps: int = 2
    is_randomised = False

    def __post_init__(self) -> None:
        check_positive("rate", self.rate)
        check_whole("steps", self.steps, 0)

    def move(self, classifier: nn.Module, images: Tensor, keys: Keys) -> Tensor:
        classes = predicted(classifier, images)

        def loss(at: Tensor) -> Tensor:
            return F.cross_entropy(logits_of(classifier, at), classes, reduction="none")

        return signed_steps(loss, images, self.rate, self.steps)
