"""The frozen-weights attack that fits seldom: networks are fitted, then held for some steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ridefense import counting
from ridefense.attacks.answers import Value
from ridefense.attacks.base import Cost
from ridefense.attacks.descent import PGD, Ascent
from ridefense.attacks.norms import project
from ridefense.attacks.objective import Objective
from ridefense.defended import Defended
from ridefense.engines import eager
from ridefense.errors import InputError, check_whole
from ridefense.estimate import Estimate, estimate
from ridefense.gradients import GradientMode, sees_the_image
from ridefense.images import cut_to_range
from ridefense.noise import Id, Keys, Stream
from ridefense.purifier import Purifier
from ridefense.settings import settings_for


@dataclass(frozen=True, kw_only=True)
class HeldWeights(PGD):
    """PGD through networks that are fitted at the current image and held for `hold` steps.

    The gradient is that of `FrozenWeights`, whatever mode the `Defended` has, at a fraction of its
    purifications: `eot` for every `hold` steps, where PGD takes `eot` for each. With `hold=1` both
    are the same attack but for two things. Where a network without a sigmoid leaves [0, 1], here
    the cut hides nothing; and where the output is that of the last training step, what is held are
    the weights that this step made. It suits estimators whose network sees the image: RIDE,
    DAE, Recorrupted.

    Attributes:
        steps: in all; 5 times 10 by default.
        eot: networks fitted at each image, with different noise; the loss is averaged over them.
        hold: steps between two fits.
    """

    steps: int = 50
    eot: int = 6
    hold: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("hold", self.hold, 1)

    def cost(self, purifier: Purifier, gradient: GradientMode | None) -> Cost:
        gradients = self.runs * self.steps * self.eot
        return Cost(round(gradients / self.hold), gradients, gradients)

    def climb(self, run: Ascent, images: Tensor) -> Tensor:
        rows = torch.arange(len(images), device=images.device)
        parts = torch.split(rows, max(1, self.batch // self.eot))
        held: list[Objective] = []
        for step in range(self.steps):
            if step % self.hold == 0:
                held = [_hold(run.objective.of(part), images[part], run, step) for part in parts]
            asked = zip(held, parts, strict=True)
            answers = [part.gradient(images[rows], run.index, step) for part, rows in asked]
            values, gradients = zip(*answers, strict=True)
            value = Value(*(torch.cat([getattr(v, n) for v in values]) for n in ("loss", "wrong")))
            run.saw(images, step, value)
            moved = images + self.step_length * run.norm.steepest(torch.cat(gradients))
            images = project(run.norm, moved, run.centre, self.eps)
        return images


def _hold(objective: Objective, images: Tensor, run: Ascent, step: int) -> Objective:
    """The same question asked of networks fitted at these images."""
    model = objective.model
    purifier = model.purifier if isinstance(model, Defended) else None
    if not (isinstance(model, Defended) and sees_the_image(model.purifier)):
        raise InputError(
            f"{type(model).__name__ if purifier is None else purifier.name} fits no network to its "
            "input that could be held; use PGD"
        )
    rows = torch.arange(len(images), device=images.device)
    seed = objective.seed_of((run.index, step))
    draws = [objective.ids_of(rows, torch.full_like(rows, m)) for m in range(objective.eot)]
    return objective.on(_Held(model, images, draws, seed))


class _Held(Defended):
    """A defended classifier whose networks stay those that were fitted at some images.

    Its views are the logits behind each of them, [M, N, classes].
    """

    def __init__(
        self, model: Defended, images: Tensor, draws: Sequence[Sequence[int]], seed: int
    ) -> None:
        super().__init__(model.classifier, model.purifier)
        settings = settings_for(model.purifier, images)
        assert settings is not None  # it sees the image
        self.settings, self.images = settings, images.detach()
        self.fits = [self._fit(ids, seed) for ids in draws]

    def _fit(self, ids: Sequence[int], seed: int) -> tuple[Keys, Estimate]:
        with counting.purification(len(self.images)):
            found = estimate(self.settings, self.images, ids=ids, seed=seed)
        keys = Keys.of(seed, ids, len(self.images), self.images.device)
        return Keys(keys.seed, keys.ids, found.attempts), found

    def shown(self, images: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
        return torch.stack([self._output(images, *fit) for fit in self.fits])

    def _output(self, images: Tensor, keys: Keys, found: Estimate) -> Tensor:
        """E_z h(z; w), with the estimate that h is fed moving as the image does.

        Where the output is that of the last training step, w is what that step made of it.
        """
        settings, space = self.settings, self.settings.normalisation
        fed = found.x[-2] + (images - self.images)
        fed = space.normalise(fed) if space else fed
        weights = found.weights.to(fed)
        if settings.output == "last":
            step = settings.total_steps - 1
            output = eager.expected_output(
                settings, keys, weights, fed, step, 1, Stream.INPUT, True
            )
        else:
            step = settings.total_steps
            output = eager.expected_output(
                settings, keys, weights, fed, step, *settings.expectation
            )
        return cut_to_range(space.denormalise(output) if space else output).to(images.dtype)
