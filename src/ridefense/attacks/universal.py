"""Universal adversarial perturbations: one for all images, computed on other images."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ridefense import usercode
from ridefense.attacks.base import Asks, Attack, Problem, check_ball
from ridefense.attacks.bridges import HeldDraws, told
from ridefense.attacks.norms import NORMS, NormName
from ridefense.attacks.objective import EOT
from ridefense.defended import Defended
from ridefense.describe import Plain, describe, describe_by_weights, fingerprint
from ridefense.errors import InputError, check_share, check_whole
from ridefense.extras import package
from ridefense.images import check_images
from ridefense.models import evaluating, is_randomised
from ridefense.noise import derive
from ridefense.purifier import Purifier

_KEPT = 16
_found: dict[str, Tensor] = {}
"""The last perturbations by what decides them, since an evaluation attacks batch after batch."""


@dataclass(frozen=True, kw_only=True)
class UniversalPerturbation(Attack):
    """Moosavi-Dezfooli et al. (2017) by ART: DeepFool on one training image after the other, each
    moved by the perturbation so far, which is brought back into the ball.

    The perturbation depends on the model, the training images and the seed, not on the images that
    are attacked. Labels are not needed: a training image counts as fooled where its class changes.

    Of a randomised defence the mean probabilities of several draws are attacked, held fixed.

    Attributes:
        training: images that the perturbation is computed on, float [N, C, H, W] in [0, 1] of the
            size of those that are attacked. Take others than are attacked.
        eps: radius of the ball, in pixels of [0, 1].
        norm: "Linf" or "L2".
        fooled: share of the training images at which the computation stops; 0.8 in the paper.
        passes: over the training images, at most.
        steps: of DeepFool on an image, at most.
        draws: of a randomised defence whose mean probabilities are attacked.
        purifier_seed: that of the purifier, where the attacker knows it.
    """

    asks: ClassVar[Asks] = "gradients"

    training: Tensor = field(repr=False, compare=False)
    eps: float
    norm: NormName = "Linf"
    fooled: float = 0.8
    passes: int = 10
    steps: int = 20
    draws: int = EOT
    purifier_seed: int | None = None

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        check_images(self.training)
        check_share("fooled", self.fooled)
        for name in ("passes", "steps", "draws"):
            check_whole(name, getattr(self, name), 1)

    def described(self) -> Plain:
        """See `ridefense.describe`: the training images are known by their content."""
        own = {name: value for name, value in vars(self).items() if name != "training"}
        content = fingerprint({"images": self.training})
        return {"type": "UniversalPerturbation", "training": content, **describe(own)}

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        # As if as many images were attacked as there are to train on.
        draws = self.draws if purifier.is_randomised else 1
        return 0, self.passes * self.steps * draws

    def perturbation(self, model: nn.Module, seed: int = 0) -> Tensor:
        """The perturbation [1, C, H, W], float64, whose norm is at most eps.

        Args:
            model: pixels [N, C, H, W] in [0, 1] to logits.
            seed: of the order of the training images, and of a randomised defence's draws.
        """
        try:
            key = self._key(model, seed)
        except InputError:  # nothing tells the purifier from another, as with a lambda
            return self._computed(model, seed)
        if key not in _found:
            while len(_found) >= _KEPT:
                del _found[next(iter(_found))]
            _found[key] = self._computed(model, seed)
        return _found[key]

    def _run(self, problem: Problem) -> Tensor:
        images = problem.images
        if images.shape[1:] != self.training.shape[1:]:
            raise InputError(
                f"training images are {list(self.training.shape[1:])}, the attacked ones "
                f"{list(images.shape[1:])}; train on images of the same size"
            )
        perturbation = self.perturbation(problem.model, problem.seed)
        problem.progress(len(images), len(images))
        return images.double() + perturbation.to(images.device)

    def _key(self, model: nn.Module, seed: int) -> str:
        whole = describe(model) if isinstance(model, Defended) else describe_by_weights(model)
        return json.dumps([whole, self.settings(), seed])

    def _computed(self, model: nn.Module, seed: int) -> Tensor:
        attacks, art = package("art.attacks.evasion", "art"), package(_CLASSIFIERS, "art")
        device = next((weights.device for weights in model.parameters()), self.training.device)
        random = self.purifier_seed is None and is_randomised(model)
        draws = self.draws if random else 1
        held = HeldDraws(model, [0], derive(seed, "universal"), draws, self.purifier_seed)
        with torch.no_grad():
            classes = held(self.training[:1].to(device)).shape[1]
        # No clip values: they would cut what an image cannot take out of the perturbation.
        classifier = art.PyTorchClassifier(
            model=held,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(self.training.shape[1:]),
            nb_classes=classes,
            device_type="gpu" if device.type == "cuda" else "cpu",
        )
        attack = attacks.UniversalPerturbation(
            classifier,
            attacker="deepfool",
            attacker_params={
                "max_iter": self.steps,
                "epsilon": 0.02,
                "nb_grads": min(10, classes),
                "verbose": False,
            },
            delta=1 - self.fooled,
            max_iter=self.passes,
            eps=self.eps,
            norm=np.inf if self.norm == "Linf" else 2,
            verbose=False,
        )
        pixels = self.training.detach().float().cpu().numpy()
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            evaluating(model),
            _quiet(),
            usercode.seeded(derive(seed, "order"), device),
            told(self.name, self.training),
        ):
            attack.generate(pixels)
        noise = torch.from_numpy(attack.noise).double()
        return NORMS[self.norm].clip(noise, self.eps)


_CLASSIFIERS = "art.estimators.classification"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without ART's warning of missing clip values, which are missing on purpose."""
    logger = logging.getLogger("art.attacks.evasion.deepfool")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
