"""Fits that stay connected to their images, for gradient modes that differentiate them.

Every engine executes the same steps; those that are differentiated run in eager.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ridefense import engines
from ridefense.engines import eager
from ridefense.engines.base import Progress, fitted_size
from ridefense.images import moving_with
from ridefense.noise import Keys, Stream
from ridefense.settings import Settings


class TailFits:
    """Fits whose last `tail` steps stay connected to x; see `engines.Fits`."""

    def __init__(self, settings: Settings, x: Tensor, keys: Keys, tail: int) -> None:
        self.settings, self.keys = settings, keys
        self.boundary = max(0, settings.total_steps - tail)
        self.segment = max(1, math.isqrt(settings.total_steps - self.boundary))
        _, self.head = engines.start(settings, x.detach(), keys)
        self.state: tuple[Tensor, Tensor] | None = None

    @property
    def weights(self) -> Tensor:
        return self.head.weights if self.state is None else self.state[0]

    @property
    def moments(self) -> Tensor:
        return self.head.moments if self.state is None else self.state[1]

    @moments.setter
    def moments(self, moments: Tensor) -> None:
        if self.state is None:
            self.head.moments = moments
        else:
            self.state = (self.state[0], moments)

    def fit(
        self,
        x: Tensor,
        steps: range,
        rates: Sequence[float],
        start: int = 0,
        progress: Progress | None = None,
    ) -> Tensor:
        cut = min(max(self.boundary - steps.start, 0), len(steps))
        losses = [self.head.fit(x.detach(), steps[:cut], rates[:cut], start)] if cut else []
        for first in range(cut, len(steps), self.segment):
            if self.state is None:
                self.state = (self.head.weights.to(x), self.head.moments.to(x))
            part = steps[first : first + self.segment]
            segment = _Segment(self.settings, self.keys, part, rates[first:], start)
            weights, moments, loss = _Checkpointed.apply(segment, *self.state, x)
            self.state = weights, moments
            losses.append(loss)
            if progress:
                progress(len(x) * (first + len(part)), len(x) * len(steps))
        return torch.cat(losses, dim=1) if losses else x.new_zeros(len(x), 0)

    def output(
        self,
        x: Tensor,
        step: int,
        samples: int,
        *,
        stream: Stream | None = Stream.OUTPUT,
        dropout: bool = False,
    ) -> Tensor:
        # The estimate that comes with a step's own forward pass is that of before the step.
        end = step + 1 if stream is Stream.INPUT else step
        if step <= self.boundary and end < self.settings.total_steps:
            value = self.head.output(x.detach(), step, samples, stream=stream, dropout=dropout)
            return moving_with(value, x)
        return eager.expected_output(
            self.settings, self.keys, self.weights.to(x), x, step, samples, stream, dropout
        )


@dataclass(frozen=True)
class _Segment:
    """Some consecutive steps of the fit, as a function that can be run again."""

    settings: Settings
    keys: Keys
    steps: range
    rates: Sequence[float]
    start: int

    def __call__(
        self, weights: Tensor, moments: Tensor, x: Tensor, differentiable: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weights and moments after the steps, and the losses [N, steps]."""
        size = fitted_size(self.settings, x)
        losses = []
        for rate, step in zip(self.rates, self.steps, strict=False):
            draws = eager.draw(self.settings, self.keys, [step], size, x).at(0)
            loss, weights, moments = eager.take_step(
                self.settings,
                (weights, moments),
                x,
                draws,
                rate,
                step + 1 - self.start,
                differentiable=differentiable,
            )
            losses.append(loss.detach())
        return weights, moments, torch.stack(losses, dim=1)


class _Checkpointed(torch.autograd.Function):
    """A segment that keeps only its inputs, and runs again when its derivative is asked for.

    `torch.utils.checkpoint` cannot serve: a step takes a gradient of its own inside.
    """

    @staticmethod
    def forward(
        ctx: Any, segment: _Segment, weights: Tensor, moments: Tensor, x: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.segment = segment
        ctx.save_for_backward(weights, moments, x)
        weights, moments, losses = segment(weights, moments, x, differentiable=False)
        ctx.mark_non_differentiable(losses)
        return weights, moments, losses

    @staticmethod
    def backward(
        ctx: Any, weights_bar: Tensor, moments_bar: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        inputs = [value.detach().requires_grad_() for value in ctx.saved_tensors]
        with torch.enable_grad(), torch.autocast(inputs[0].device.type, enabled=False):
            weights, moments, _ = ctx.segment(*inputs, differentiable=True)
        bars = torch.autograd.grad((weights, moments), inputs, (weights_bar, moments_bar))
        return None, *bars
