"""What an attack asks of a model: losses and gradients, averaged over its randomness."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ridefense.attacks.losses import Loss, check_labels
from ridefense.defended import is_randomised, views
from ridefense.errors import InputError
from ridefense.noise import derive


@dataclass(frozen=True)
class Value:
    """What was seen of N images, averaged over the draws (and the loss over the views).

    Attributes:
        loss: [N].
        wrong: share of the draws in which the image was misclassified, [N] in [0, 1].
    """

    loss: Tensor
    wrong: Tensor

    @classmethod
    def lowest(cls, images: Tensor) -> "Value":
        """Below whatever can be seen of images [N, C, H, W]."""
        return cls(images.new_full((len(images),), -torch.inf), images.new_full((len(images),), -1))

    def of(self, rows: Tensor) -> "Value":
        return Value(self.loss[rows], self.wrong[rows])

    def where(self, rows: Tensor, other: "Value") -> "Value":
        """These for the images that `rows` (bool [N]) marks, the other's for the rest."""
        columns = ((self.loss, other.loss), (self.wrong, other.wrong))
        return Value(*(torch.where(rows, mine, theirs) for mine, theirs in columns))

    def put(self, rows: Tensor, part: "Value") -> None:
        self.loss[rows], self.wrong[rows] = part.loss.to(self.loss), part.wrong.to(self.wrong)

    def above(self, other: "Value") -> Tensor:
        """Which images are worse off here: more often misclassified, then with a higher loss."""
        higher = self.loss.nan_to_num(-torch.inf) > other.loss.nan_to_num(-torch.inf)
        return (self.wrong > other.wrong) | ((self.wrong == other.wrong) & higher)


EOT = 5
"""Draws of a randomised defence that are averaged, at least, where one would let luck decide."""


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
        odd: ids of the images that had a loss or a gradient that was not finite.
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
    odd: set[int] = field(default_factory=set)

    def value(self, images: Tensor, *question: int | str) -> Value:
        """Of images [N, C, H, W]; the same question always gets the same draws."""
        return Value(*self._average(images, question, differentiate=False))

    def gradient(self, images: Tensor, *question: int | str) -> tuple[Value, Tensor]:
        """The value, and the gradient of the loss, [N, C, H, W]; 0 where it is not finite."""
        loss, wrong, gradient = self._average(images, question, differentiate=True)
        return Value(loss, wrong), gradient

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
                for part in rows.split(self.batch)
            ]
        return torch.cat(parts)

    def _average(self, images: Tensor, question, differentiate: bool) -> list[Tensor]:
        seed, count = self.seed_of(question), len(images)
        rows = torch.arange(count * self.eot, device=images.device)
        parts = [
            self._ask(images, part % count, part // count, seed, differentiate)
            for part in rows.split(self.batch)
        ]
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        return [column.unflatten(0, (self.eot, count)).nanmean(dim=0) for column in columns]

    def _ask(self, images, rows, draws, seed: int, differentiate: bool) -> tuple[Tensor, ...]:
        """Loss, wrong and gradient of `images[rows]`, each in one draw."""
        x, labels = images[rows].detach().requires_grad_(differentiate), self.labels[rows]
        targets = None if self.targets is None else self.targets[rows]
        ids = self.ids_of(rows, draws)
        with torch.set_grad_enabled(differentiate):
            seen = views(self.model, x, ids, seed)
            check_labels(labels, seen.shape[-1])
            loss = torch.stack([self._loss(logits, labels, targets) for logits in seen]).mean(0)
        final = seen.detach() if self.views_are_draws else seen[-1:].detach()
        wrong = final.isfinite().all(dim=2) & (final.argmax(dim=2) != labels)
        finite = final.isfinite().all(dim=2).all(dim=0)
        answer = [loss.detach(), wrong.to(loss).mean(dim=0)]
        if differentiate:
            gradient = _gradient(loss, x)
            finite = finite & gradient.isfinite().flatten(1).all(dim=1)
            answer.append(gradient.nan_to_num(0, 0, 0))
        self.odd.update(self.ids[row] for row in rows[~finite].tolist())
        return tuple(answer)

    def _loss(self, logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
        if targets is None:
            return self.loss(logits, labels)
        return self.loss(logits, labels, targets)

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
    gradient = None
    if loss.requires_grad:
        (gradient,) = torch.autograd.grad(loss.sum(), x, allow_unused=True)
    if gradient is None:
        raise InputError(
            "the model's logits are not connected to its input, so it has no gradient; "
            "attack Defended(classifier, purifier), or use SPSA"
        )
    return gradient
