"""Indicators of attack failure, image by image: whether a search could have worked at all.

An attack that fails for reasons of its own leaves an image as robust as a perfect defence does.
The indicators are those of Pintor et al., "Indicators of Attack Failure: Debugging and Improving
Optimization of Adversarial Examples" (NeurIPS 2022) that a search can see by itself, and more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

FAILURES = {
    "no gradient": "most steps had a gradient of zero",
    "squashed": "the outputs are squashed (sigmoid, tanh), and large ones have no gradient",
    "estimated": "the classifier has no gradient; it was estimated from queries",
    "relaxed": "the classifier has no gradient; its rounding and decisions were left out",
    "not finite": "logits or gradients were not finite in some step",
    "constant": "the loss was the same in all steps",
    "downhill": "no step had a higher loss than the start, so the gradient is wrong",
    "unrelated": "gradients of consecutive steps were unrelated: noise, or a shattered gradient",
    "not moved": "the attack returned the clean image",
    "lost": "the search saw the image misclassified in all draws, and returned another point",
    "rising": "the loss was still rising at the last step, so more steps may find more",
}
"""The indicators, most serious first, each with what it means."""

DISABLING = (
    *("no gradient", "squashed", "estimated", "not finite", "constant", "downhill", "unrelated"),
    "not moved",
)
"""The indicators with which an image that kept its class says nothing of the defence."""

_UNRELATED = 1.4
"""A coherence below which gradients are unrelated: random directions have about 0.8."""


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """What an attack saw of one image.

    Attributes:
        steps: how often it asked for a gradient, or for an estimate of one; 0 for an attack that
            does not ask, or does not tell.
        zero: share of these steps in which the gradient was zero, and so was an estimate of it.
        saturated: share in which the scale of the outputs had taken the gradient of the loss, and
            another loss took its place; see `losses.log_odds`.
        squashed: share in which outputs lay at the bounds of [-1, 1], and were not a softmax's.
        relaxed: share in which the classifier had no gradient, and one was taken with its rounding,
            decisions and cuts left out; see `relaxed.Relaxed`.
        estimated: share in which the gradient was estimated from the classifier's answers.
        not_finite: share with a loss or a gradient that was not finite.
        constant: whether the loss was the same in all of several steps.
        rising: whether the last step of the last run was by far the best.
        fooled: the largest share of draws in which the image was misclassified in a step.
        moved: whether the returned image differs from the clean one.
        climbed: whether some step of a run had a higher loss than its start.
        coherence: of the gradients g and h of consecutive steps, the mean of |Σ gᵢhᵢ| / √Σ gᵢ²hᵢ²,
            which is about 0.8 where their signs are unrelated; None for less than four pairs of
            steps, and where it is not known.
    """

    steps: int = 0
    zero: float = 0.0
    saturated: float = 0.0
    squashed: float = 0.0
    relaxed: float = 0.0
    estimated: float = 0.0
    not_finite: float = 0.0
    constant: bool = False
    rising: bool = False
    fooled: float = 0.0
    moved: bool = True
    climbed: bool = True
    coherence: float | None = None

    def failures(self, survival: float) -> tuple[str, ...]:
        """The names in `FAILURES` that speak against the search.

        Args:
            survival: share of fresh draws in which the returned image keeps its class. An image
                that lost it in all of them was attacked well enough, however that was done.
        """
        if survival == 0:
            return ()
        found = {
            "no gradient": self.zero > 0.5,
            "squashed": self.squashed > 0.5,
            "estimated": self.estimated > 0,
            "relaxed": self.relaxed > 0,
            "not finite": self.not_finite > 0,
            "constant": self.constant,
            "downhill": not self.climbed,
            "unrelated": self.coherence is not None and self.coherence < _UNRELATED,
            "not moved": not self.moved,
            "lost": self.fooled == 1 and survival == 1,
            "rising": self.rising,
        }
        return tuple(name for name in FAILURES if found[name])


class Step(NamedTuple):
    """What was found when a gradient was asked for, bool [N] each; see `Diagnostics`."""

    zero: Tensor
    saturated: Tensor
    squashed: Tensor
    relaxed: Tensor
    estimated: Tensor
    not_finite: Tensor


class Trace:
    """The steps of a search as they are taken, for N images by their ids."""

    def __init__(self, ids: Sequence[int], device: torch.device) -> None:
        self._places = {id_: place for place, id_ in enumerate(ids)}
        self._ids = list(ids)
        count = len(self._ids)
        self._counts = torch.zeros(len(Step._fields), count, device=device)
        self._steps = torch.zeros(count, dtype=torch.int64, device=device)
        self._low = torch.full((count,), torch.inf, dtype=torch.float64, device=device)
        self._high = -self._low
        self._first, self._top = torch.zeros_like(self._low), -self._low  # of the run in progress
        self._looks = torch.zeros_like(self._steps)
        self._rising = torch.zeros(count, dtype=torch.bool, device=device)
        self._fooled = torch.zeros_like(self._low)
        self._climbed = torch.zeros_like(self._rising)
        self._gradients: Tensor | None = None  # the last of each image, of length 1
        self._coherence, self._pairs = torch.zeros_like(self._low), torch.zeros_like(self._steps)

    def asked(self, ids: Sequence[int], step: Step, gradient: Tensor | None = None) -> None:
        """A gradient [N, C, H, W] was asked for, at the images of these ids."""
        rows = self._rows(ids)
        self._counts[:, rows] += torch.stack(step).to(self._counts)
        self._steps[rows] += 1
        if gradient is not None:
            self._compare(rows, gradient.detach().flatten(1).double())

    def _compare(self, rows: Tensor, gradient: Tensor) -> None:
        """Compare gradients [N, pixels] with those of the steps before."""
        length = gradient.norm(dim=1, keepdim=True)
        own = torch.where(length > 0, gradient / length.clamp_min(1e-300), 0.0)
        if self._gradients is None:
            self._gradients = own.new_zeros(len(self._ids), own.shape[1])
        before = self._gradients[rows]
        products = own * before
        known = (products != 0).any(dim=1)
        coherence = products.sum(dim=1).abs() / products.norm(dim=1).clamp_min(1e-300)
        self._coherence[rows] += torch.where(known, coherence, 0.0)
        self._pairs[rows] += known
        self._gradients[rows] = own

    def saw(self, ids: Sequence[int], step: int, loss: Tensor, wrong: Tensor) -> None:
        """These losses [N] and shares of wrong draws [N] were seen, `step` steps into a run."""
        rows, loss = self._rows(ids), loss.double().nan_to_num(-torch.inf)
        if step == 0:
            self._first[rows] = self._top[rows] = loss
            self._rising[rows] = False
        else:
            before = self._top[rows]
            self._climbed[rows] |= loss > self._first[rows]
            # Half of all that was gained came with this step.
            self._rising[rows] = loss - before > 0.5 * (loss - self._first[rows])
            self._top[rows] = torch.maximum(before, loss)
        self._low[rows] = torch.minimum(self._low[rows], loss)
        self._high[rows] = torch.maximum(self._high[rows], loss)
        self._looks[rows] += 1
        self._fooled[rows] = torch.maximum(self._fooled[rows], wrong.double())

    @property
    def not_finite(self) -> list[int]:
        """Ids of the images that had a loss or a gradient that was not finite."""
        marked = self._counts[Step._fields.index("not_finite")] > 0
        return sorted(self._ids[place] for place in marked.nonzero().flatten().tolist())

    @property
    def steps(self) -> int:
        """How often gradients were asked for, over all images."""
        return int(self._steps.sum())

    def tell(self, moved: Sequence[bool]) -> tuple[Diagnostics, ...]:
        """For each image, in the order of the ids."""
        shares = (self._counts / self._steps.clamp_min(1)).T.tolist()
        constant = (self._looks > 1) & (self._low == self._high)
        coherence = (self._coherence / self._pairs.clamp_min(1)).tolist()
        return tuple(
            Diagnostics(
                **dict(zip(Step._fields, shares[row], strict=True)),
                steps=int(self._steps[row]),
                constant=bool(constant[row]),
                rising=bool(self._rising[row]),
                fooled=float(self._fooled[row]),
                moved=moved[place],
                climbed=bool(self._climbed[row]) or int(self._looks[row]) < 2,
                coherence=coherence[row] if int(self._pairs[row]) >= 4 else None,
            )
            for place, row in enumerate(self._rows(self._ids).tolist())
        )

    def _rows(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor([self._places[id_] for id_ in ids], device=self._steps.device)


def diagnostics(trace: Trace | None, clean: Tensor, found: Tensor) -> tuple[Diagnostics, ...]:
    """Of a search that began at clean images [N, C, H, W] and returned others; None is unknown."""
    moved = [True] * len(clean)
    if found.shape == clean.shape:
        moved = (clean != found).flatten(1).any(dim=1).tolist()
    if trace is None:
        return tuple(Diagnostics(moved=changed) for changed in moved)
    return trace.tell(moved)
