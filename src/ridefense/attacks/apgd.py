"""Auto-PGD (Croce & Hein 2020, Algorithm 1): no step size to choose."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ridefense.attacks.answers import column
from ridefense.attacks.descent import Ascent, Iterative
from ridefense.attacks.norms import project

# Of the step that was just taken; the rest repeats the step before it.
_MOMENTUM = 0.75
# Share of the steps between two checkpoints that must raise the loss, or the step size is halved.
_RISING = 0.75


@dataclass(frozen=True, kw_only=True)
class APGD(Iterative):
    """PGD with momentum that starts with steps of 2 eps, and halves them where they do not pay.

    At checkpoints (after 22% of the steps, then ever sooner) an image whose loss rose in fewer
    than 75% of the steps, or whose best loss stood still since a checkpoint that did not halve its
    step, goes back to its best point with half the step. With `eot` the losses that it compares are
    the averages.

    The result is the worst point seen: misclassified most often, then with the highest loss. Of a
    randomised defence a single draw makes that a point of good luck, to which the halvings then
    return again and again: give it an `eot` of 5 or more.

    `APGD(loss=cross_entropy)`, `APGD(loss=dlr)` and `APGD(loss=dlr, targets=9)` are AutoAttack's
    apgd-ce, apgd-dlr and apgd-t; with `eot=20` the first two are its version "rand".
    """

    steps: int = 100
    random_start: bool = True

    @property
    def step_size(self) -> float:
        """Of the first steps, in `norm`."""
        return 2 * self.eps

    def climb(self, run: Ascent, images: Tensor) -> Tensor:
        norm, centre = run.norm, run.centre
        window, shrink, least = (max(int(share * self.steps), 1) for share in (0.22, 0.03, 0.06))
        x = previous = images
        value, gradient = run.gradient(x, 0)
        size = torch.full_like(x[:, :1, :1, :1], self.step_size)
        top, top_gradient, top_loss = x, gradient, value.loss  # where the loss was highest
        worst, worst_value = x, value
        last, rises = value.loss, torch.zeros_like(value.loss)
        top_before, halved = top_loss, torch.ones_like(top_loss, dtype=torch.bool)
        checkpoint = window
        for step in range(1, self.steps + 1):
            momentum = _MOMENTUM if step > 1 else 1.0
            ahead = project(norm, x + size * norm.steepest(gradient), centre, self.eps)
            mixed = x + momentum * (ahead - x) + (1 - momentum) * (x - previous)
            previous, x = x, project(norm, mixed, centre, self.eps)
            value, gradient = run.gradient(x, step)

            rises, last = rises + (value.loss > last), value.loss
            higher = value.loss > top_loss
            top, top_gradient = _where(higher, x, top), _where(higher, gradient, top_gradient)
            top_loss = torch.where(higher, value.loss, top_loss)
            above = value.above(worst_value)
            worst, worst_value = _where(above, x, worst), value.where(above, worst_value)

            if step == checkpoint:
                stuck = (rises <= _RISING * window) | (~halved & (top_loss <= top_before))
                size = torch.where(column(stuck), size / 2, size)
                x, gradient = _where(stuck, top, x), _where(stuck, top_gradient, gradient)
                top_before, halved, rises = top_loss, stuck, torch.zeros_like(rises)
                window = max(window - shrink, least)
                checkpoint += window
        return worst


def _where(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(column(rows), new, old)
