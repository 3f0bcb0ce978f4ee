"""What an attack saw on its way, image by image: whether it could have worked at all.

An attack that fails for reasons of its own leaves an image as robust as a perfect defence does.
Pintor et al., "Indicators of Attack Failure: Debugging and Improving Optimization of Adversarial
Examples" (NeurIPS 2022) list the ways; these are the ones that a search can see by itself.
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
    "not finite": "logits or gradients were not finite in some step",
    "constant": "the loss was the same in all steps",
    "not moved": "the attack returned the clean image",
    "lost": "the search saw the image misclassified in all draws, and returned another",
    "rising": "the loss was still rising at the last step, so more steps may find more",
}
"""What a search may say against itself, most serious first."""

DISABLING = ("no gradient", "squashed", "estimated", "not finite", "constant", "not moved")
"""The failures with which an image that kept its class says nothing of the defence."""


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
        estimated: share in which the gradient was estimated from the classifier's answers.
        not_finite: share with a loss or a gradient that was not finite.
        constant: whether the loss was the same in all of several steps.
        rising: whether the last step of the last run was by far the best.
        fooled: the largest share of draws in which the image was misclassified in a step.
        moved: whether the returned image differs from the clean one.
    """

    steps: int = 0
    zero: float = 0.0
    saturated: float = 0.0
    squashed: float = 0.0
    estimated: float = 0.0
    not_finite: float = 0.0
    constant: bool = False
    rising: bool = False
    fooled: float = 0.0
    moved: bool = True

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
            "not finite": self.not_finite > 0,
            "constant": self.constant,
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

    def asked(self, ids: Sequence[int], step: Step) -> None:
        """A gradient was asked for, at the images of these ids."""
        rows = self._rows(ids)
        self._counts[:, rows] += torch.stack(step).to(self._counts)
        self._steps[rows] += 1

    def saw(self, ids: Sequence[int], step: int, loss: Tensor, wrong: Tensor) -> None:
        """These losses [N] and shares of wrong draws [N] were seen, `step` steps into a run."""
        rows, loss = self._rows(ids), loss.double().nan_to_num(-torch.inf)
        if step == 0:
            self._first[rows] = self._top[rows] = loss
            self._rising[rows] = False
        else:
            before = self._top[rows]
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
        return tuple(
            Diagnostics(
                **dict(zip(Step._fields, shares[row], strict=True)),
                steps=int(self._steps[row]),
                constant=bool(constant[row]),
                rising=bool(self._rising[row]),
                fooled=float(self._fooled[row]),
                moved=moved[place],
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
