"""What an attack asks of a model: losses and gradients, averaged over its randomness."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ridefense.attacks.answers import Answers, Value, column
from ridefense.attacks.diagnostics import Trace
from ridefense.attacks.losses import Loss, check_labels, cross_entropy, log_odds, margin, unsquashed
from ridefense.attacks.relaxed import Relaxed
from ridefense.errors import InputError
from ridefense.models import (
    classified_by,
    is_distrusted,
    is_randomised,
    read_by,
    shown_by,
    views,
)
from ridefense.noise import Keys, Stream, derive
from ridefense.purifier import named

EOT = 5
"""Draws of a randomised defence that are averaged, at least, where one would let luck decide."""

_DIRECTIONS = 32
_DISTANCES = (0.02, 0.1, 0.3)
"""Of an estimated gradient: its directions, and their lengths in pixels, in turn."""


_SQUASHED, _FLAT = 1e-3, 0.1
"""Outputs whose largest is so close to 1 were squashed; those that lie as close are too small."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of N images as a function of their pixels.

    Attributes:
        model: pixels to logits; a `Defended`, or any module.
        labels: int64 [N], the true ones.
        targets: int64 [N], where the attack is targeted.
        ids: of the images.
        loss: see `losses.py`.
        eot: draws of the purifier's randomness that are averaged (expectation over
            transformation, Athalye et al. 2018).
        seed: of the attack; every question is a new draw that depends on it.
        purifier_seed: that of the purifier, where the attacker knows it.
        batch: images times draws that the model is given at once.
        views_are_draws: whether each view is a draw, and not the last alone the real output.
        trace: is told of every gradient that is asked for.
    """

    model: nn.Module
    labels: Tensor
    ids: Sequence[int]
    seed: int
    loss: Loss
    targets: Tensor | None = None
    eot: int = 1
    purifier_seed: int | None = None
    batch: int = 128
    views_are_draws: bool = False
    trace: Trace | None = None

    def value(self, images: Tensor, *question: int | str) -> Value:
        """Of images [N, C, H, W]; the same question always gets the same draws."""
        return self._answers(images, question, differentiate=False).value

    def gradient(self, images: Tensor, *question: int | str) -> tuple[Value, Tensor]:
        """The value, and the gradient of the loss, [N, C, H, W]; 0 where it is not finite.

        Where the scale of the outputs takes the gradient it is that of another loss, see `_spare`.
        Where the classifier has no gradient at all (decisions, rounded outputs), or a sigmoid or
        tanh has squashed its outputs, it is taken with what hides it left out, see
        `relaxed.Relaxed`. A gradient that is still missing is estimated from the classifier's
        answers, see `estimate`; so is one that was found not to be the derivative, where the
        loss does not rise along it as it promises.

        Raises:
            InputError: where a gradient mode does not connect what it shows the classifier to the
                images.
        """
        answers = self._answers(images, question, differentiate=True)
        gradient = answers.mean_gradient
        if self.trace is not None:
            self.trace.asked(self.ids, answers.step, gradient)
        return answers.value, gradient

    def of(self, rows: Tensor) -> "Objective":
        """That of some of the images, or of images repeated: rows int64 [M]."""
        return replace(
            self,
            labels=self.labels[rows],
            targets=None if self.targets is None else self.targets[rows],
            ids=[self.ids[row] for row in rows.tolist()],
        )

    def on(self, model: nn.Module) -> "Objective":
        """The same asked of another model, whole and once: its views are the draws."""
        whole = max(1, len(self.ids))
        return replace(self, model=model, eot=1, batch=whole, views_are_draws=True)

    @property
    def judge(self) -> "Objective":
        """The same asked of enough draws that one lucky draw does not decide between points."""
        known = self.purifier_seed is not None or not is_randomised(self.model)
        return self if known else replace(self, eot=max(self.eot, EOT))

    def logits(self, images: Tensor, *question: int | str) -> Tensor:
        """The real logits [N, classes], of one draw."""
        with torch.no_grad():
            rows = torch.arange(len(images), device=images.device)
            seed = self.seed_of(question)
            parts = [
                views(self.model, images[part], self.ids_of(part), seed)[-1]
                for part in torch.split(rows, self.batch)
            ]
        return read_by(self.model, torch.cat(parts), self.labels)

    def estimate(self, shown: Tensor, seed: int) -> Tensor:
        """The margin's gradient by what the classifier is shown, from the classifier's answers.

        Finite differences along random signs (SPSA) at several distances, since the answers may
        be rounded, or decisions. The purifier is not run.

        Args:
            shown: [M, N, C, H, W], see `Defended.shown`.
            seed: of the directions.
        """
        points = shown.detach()
        size, ids = points[0, 0].numel(), list(self.ids) * len(points)
        keys = Keys.of(derive(seed, "estimate"), ids, len(ids), points.device)
        total = torch.zeros_like(points)
        for sample in range(_DIRECTIONS):
            drawn = keys.uniform(Stream.ATTACK, [0], size, sample=sample)
            step = torch.where(drawn < 0.5, -1.0, 1.0).to(points).view_as(points)
            distance = _DISTANCES[sample % len(_DISTANCES)]
            total += column(self._slopes(points, step, distance, seed)) * step
        return total / _DIRECTIONS

    def _slopes(self, shown: Tensor, step: Tensor, distance: float, seed: int) -> Tensor:
        """Central differences of the margin along a step: [M, N] of images [M, N, C, H, W]."""
        count, points, step = len(shown), shown.flatten(0, 1), step.flatten(0, 1)
        labels, targets = self.labels.repeat(count), None
        if self.targets is not None:
            targets = self.targets.repeat(count)
        ids = list(self.ids) * count
        with torch.no_grad():
            ahead, behind = (
                margin(
                    self._classified((points + move * step).clamp(0, 1), ids, seed, labels),
                    labels,
                    targets,
                )
                for move in (distance, -distance)
            )
        return ((ahead - behind) / (2 * distance)).nan_to_num(0, 0, 0).view(count, -1)

    def _climbs(self, loss: Tensor, shown: Tensor, seed: int) -> Tensor:
        """Whether losses [N] rise along their gradient as it promises, to a tenth: bool [N].

        A gradient that leads up a little is not enough: attacks along it stay where they are.
        """
        (gradient,) = torch.autograd.grad(loss.sum(), shown, retain_graph=True)
        step = _DISTANCES[0] * gradient.nan_to_num(0, 0, 0).sign()
        labels, ids = self.labels.repeat(len(shown)), list(self.ids) * len(shown)
        ends = [(shown.detach() + move * step).clamp(0, 1) for move in (1, -1)]
        losses = []
        with torch.no_grad():
            for points in ends:
                flat = self._classified(points.flatten(0, 1), ids, seed, labels)
                seen = flat.view(*shown.shape[:2], -1)
                losses.append(torch.stack([self._loss(logits) for logits in seen]).mean(dim=0))
        promised = (gradient * (ends[0] - ends[1])).transpose(0, 1).flatten(1).sum(dim=1)
        return losses[0] - losses[1] > 0.9 * promised

    def _classified(self, shown: Tensor, ids: Sequence[int], seed: int, labels: Tensor) -> Tensor:
        """Logits [N, classes] of what the classifier is shown, as `read_by` reads them."""
        return read_by(self.model, classified_by(self.model, shown, ids, seed), labels)

    def _answers(
        self, images: Tensor, question: Sequence[int | str], differentiate: bool
    ) -> Answers:
        """Of all draws, [draws, N]."""
        seed, count = self.seed_of(question), len(images)
        rows = torch.arange(count * self.eot, device=images.device)
        parts = [
            self._ask(images, part % count, part // count, seed, differentiate)
            for part in torch.split(rows, self.batch)
        ]
        return Answers.joined(parts, self.eot)

    def _ask(
        self, images: Tensor, rows: Tensor, draws: Tensor, seed: int, differentiate: bool
    ) -> Answers:
        """What is answered for `images[rows]`, each in one draw."""
        asked = replace(self.of(rows), ids=self.ids_of(rows, draws))
        x = images[rows].detach().requires_grad_(differentiate)
        with torch.set_grad_enabled(differentiate):
            shown = shown_by(self.model, x, asked.ids, seed)
            labels = asked.labels.repeat(len(shown))
            flat = self._classified(shown.flatten(0, 1), list(asked.ids), seed, labels)
            seen = flat.view(*shown.shape[:2], -1)
            check_labels(asked.labels, seen.shape[-1])
            losses = torch.stack([asked._loss(logits) for logits in seen])
            loss = losses.mean(dim=0)
            squashed = _are_squashed(seen)
            saturated = asked._saturated(losses.detach(), seen.detach()) | squashed
            # Most steps need no spare.
            spare = asked._spare(seen) if saturated.any() else loss
        final = seen.detach() if self.views_are_draws else seen[-1:].detach()
        finite = final.isfinite().all(dim=2)
        wrong = finite & (final.argmax(dim=2) != asked.labels)
        answers = Answers(
            loss=loss.detach(),
            wrong=wrong.to(loss).mean(dim=0),
            spare=spare.detach(),
            saturated=saturated,
            squashed=squashed & ~_are_probabilities(seen),
            not_finite=~finite.all(dim=0),
        )
        if not differentiate:
            # Values are compared from point to point, some of which may look squashed by chance.
            return replace(answers, saturated=saturated & ~squashed)
        if not shown.requires_grad:
            raise InputError(
                f"what {type(self.model).__name__} shows its classifier is not connected to its "
                "input by the gradient mode; use Identity() as its gradient, or use SPSA"
            )
        return asked._differentiated(answers, x, shown, seen, loss, spare, seed)

    def _differentiated(
        self,
        answers: Answers,
        x: Tensor,
        shown: Tensor,
        seen: Tensor,
        loss: Tensor,
        spare: Tensor,
        seed: int,
    ) -> Answers:
        """The answers with a gradient: of the loss, else of its spare, else estimated.

        Args:
            seen: logits [M, N, classes] of what was shown.
            spare: [N], the loss itself where no loss is saturated.
        """
        # Each image's gradient is its own, so one backward pass finds those of both losses.
        saturated = answers.saturated
        first = loss if spare is loss else torch.where(saturated, spare, loss)
        gradient = _gradient(first, x)
        finite = _is_finite(gradient)
        not_finite = answers.not_finite | ~(finite | saturated)
        gradient = gradient.nan_to_num(0, 0, 0)
        dead = saturated | (_is_zero(gradient) & ~answers.not_finite)
        again = dead & ~(saturated & finite)
        if again.any():
            with torch.enable_grad():
                other = _gradient(self._spare(seen), x)
            not_finite = not_finite | (saturated & ~_is_finite(other))
            gradient = torch.where(column(again), other.nan_to_num(0, 0, 0), gradient)
        # Squashed outputs have the gradient of the classes that are not at a bound, alone.
        relaxed = dead & (_is_zero(gradient) | answers.squashed) & (answers.wrong < 1)
        if relaxed.any():
            rows = relaxed.nonzero().flatten()
            other = torch.zeros_like(gradient)
            other[rows] = self.of(rows)._relaxed(x, shown, rows, seed)
            relaxed = relaxed & ~_is_zero(other)
            gradient = torch.where(column(relaxed), other, gradient)
        missing = dead
        if is_distrusted(self.model):
            # An image that is misclassified already stays where it is.
            misled = ~dead & ~self._climbs(loss, shown, seed)
            gradient = gradient.masked_fill(column(misled), 0)
            missing = dead | misled
        estimated = missing & _is_zero(gradient)
        estimated = estimated & (answers.wrong < 1)
        if estimated.any():
            rows = estimated.nonzero().flatten()
            slopes = torch.zeros_like(shown)
            slopes[:, rows] = self.of(rows).estimate(shown[:, rows], seed)
            (found,) = torch.autograd.grad((shown * slopes).sum(), x)
            gradient = torch.where(column(estimated), found.nan_to_num(0, 0, 0), gradient)
            estimated = estimated & ~_is_zero(gradient)
        return replace(
            answers,
            gradient=gradient,
            dead=dead,
            relaxed=relaxed,
            estimated=estimated,
            not_finite=not_finite,
        )

    def _relaxed(self, x: Tensor, shown: Tensor, rows: Tensor, seed: int) -> Tensor:
        """The gradient of the spare loss of the relaxed classifier, by images `x[rows]`.

        It is 0 where the classifier has none even so, or fails when it is run relaxed.
        """
        part = shown[:, rows]
        with suppress(RuntimeError, TypeError, ValueError, InputError), Relaxed():
            labels = self.labels.repeat(len(part))
            flat = self._classified(part.flatten(0, 1), list(self.ids) * len(part), seed, labels)
            spare = self._spare(flat.view(*part.shape[:2], -1))
            return _gradient(spare, x)[rows].nan_to_num(0, 0, 0)
        return torch.zeros_like(x[rows])

    def _loss(self, logits: Tensor) -> Tensor:
        """Of logits [N, classes], [N]."""
        aimed = () if self.targets is None else (self.targets,)
        loss = self.loss(logits, self.labels, *aimed)
        if not isinstance(loss, Tensor) or loss.shape != self.labels.shape:
            made = tuple(loss.shape) if isinstance(loss, Tensor) else named(loss)
            raise InputError(
                f"loss {named(self.loss)} returned {made} for {len(self.labels)} images; let it "
                'return one loss an image, [N] (reduction="none")'
            )
        return loss

    def _spare(self, seen: Tensor) -> Tensor:
        """A loss [N] that no scale of the outputs [M, N, classes] takes the gradient of.

        The log-odds behind the cross-entropy, which point as it does, of outputs whose squashing is
        undone; of outputs that are all but equal the margin, since the cross-entropy would then
        weigh all classes alike. The mean of the views.
        """
        flat, losses = _are_flat(seen), []
        for outputs in seen:
            logits = unsquashed(outputs)
            if self.targets is None:
                odds, gap = log_odds(logits, self.labels), margin(outputs, self.labels)
            else:
                odds = -log_odds(logits, self.targets)
                gap = margin(outputs, self.labels, self.targets)
            losses.append(torch.where(flat, gap, odds))
        return torch.stack(losses).mean(dim=0)

    def _saturated(self, losses: Tensor, seen: Tensor) -> Tensor:
        """Whose loss [M, N] of outputs [M, N, classes] is misled by their scale, bool [N].

        A cross-entropy below the precision of 1 - p, in all views, and one of outputs that are all
        but equal. So is any loss of outputs that were squashed, see `_are_squashed`.
        """
        found = torch.zeros_like(self.labels, dtype=torch.bool)
        if self.loss is cross_entropy:
            found = _are_flat(seen)
        if self.targets is None:  # a margin of an image that keeps its class is below 0
            least, most = losses.aminmax(dim=0)
            found = found | ((least >= 0) & (most < torch.finfo(seen.dtype).eps))
        return found

    def seed_of(self, question: Sequence[int | str]) -> int:
        """The purifier's, for a question."""
        if self.purifier_seed is not None:
            return self.purifier_seed
        return derive(self.seed, "draw", *question)

    def ids_of(self, rows: Tensor, draws: Tensor | None = None) -> list[int]:
        """The image's own id for its first draw; unrelated ones, so unrelated noise, for more."""
        draws = torch.zeros_like(rows) if draws is None else draws
        return [
            derive(self.ids[row], "draw", draw) if draw else self.ids[row]
            for row, draw in zip(rows.tolist(), draws.tolist(), strict=True)
        ]


def _gradient(loss: Tensor, x: Tensor) -> Tensor:
    """Of a loss [N] by images [N, C, H, W]; 0 where it does not depend on them."""
    if not loss.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(loss.sum(), x, allow_unused=True, retain_graph=True)
    return torch.zeros_like(x) if gradient is None else gradient


def _is_zero(gradient: Tensor) -> Tensor:
    return ~gradient.flatten(1).any(dim=1)


def _is_finite(gradient: Tensor) -> Tensor:
    return gradient.isfinite().flatten(1).all(dim=1)


def _are_squashed(seen: Tensor) -> Tensor:
    """Whose outputs [M, N, classes] lie in [-1, 1] and at its bounds in all views, bool [N].

    Up to a tolerance on both sides: outputs may be rounded, or have ties broken by a little.
    """
    top = seen.detach().abs().amax(dim=2)
    return ((top - 1).abs() < _SQUASHED).all(dim=0)


def _are_probabilities(seen: Tensor) -> Tensor:
    """Whose outputs [M, N, classes] sum to 1 in all views, bool [N]."""
    return ((seen.detach().sum(dim=2) - 1).abs() < 1e-3).all(dim=0)


def _are_flat(seen: Tensor) -> Tensor:
    """Whose outputs [M, N, classes] are all but equal in all views, bool [N]."""
    low, high = seen.detach().aminmax(dim=2)
    return (high - low < _FLAT).all(dim=0)
