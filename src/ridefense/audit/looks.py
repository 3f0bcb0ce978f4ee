"""Looks at something that answers images: calls in every way that attacks and evaluations use,
whose answers are compared."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from ridefense.noise import Id
from ridefense.treatment import NO_TREATMENT

Call = Callable[[Tensor, Sequence[Id], int], Tensor]
"""Images [N, C, H, W], their ids and a seed to answers [N, ...]: purified images, or logits."""

DEFENCE = {
    "detached": "says that it is differentiable, and its result has no gradient; attacked as not "
    "differentiable",
    "zero gradient": "says that it is differentiable, and its gradient is zero; attacked as not "
    "differentiable",
    "wrong gradient": "its gradient is not its derivative, by finite differences; attacked as not "
    "differentiable",
    "random": "says that it is deterministic, and another seed gives another result; attacked as "
    "randomised",
    "unrepeatable": "equal calls with equal seeds give different results; attacked as randomised, "
    "and its figures cannot be repeated exactly",
    "changing": "answers equal images otherwise in a later call; every call finds it in the state "
    "that it came in",
    "input returned": "returns its input itself, or a view of it; its result is copied",
    "input changed": "changes the images that it is given; it is given copies",
    "sees gradients": "answers otherwise where a gradient is wanted; it is never shown that one "
    "is, and attacked as not differentiable",
    "training mode": "answers otherwise in training mode; it is called in the mode it came in",
    "mixes images": "the result of an image depends on the other images of its batch; it is given "
    "one image at a time",
    "single images": "answers an image that is alone in its batch otherwise than one among others; "
    "the figures are those among others, and a single image is given to it with a copy",
    "not finite": "some of its results are not finite",
    "fails": "ends in an error on some images or in a later call; where it does, it has answered "
    "wrong",
}
"""What may be found of how a defence behaves, and what follows."""

CLASSIFIER = {
    "detached": "its outputs have no gradient; attacks estimate one from its answers",
    "zero gradient": "its gradient is zero; attacks estimate one from its answers",
    "wrong gradient": "its gradient is not its derivative, by finite differences; attacks check it "
    "in every step, and estimate one from its answers where it misleads",
    "random": "answers equal images differently; attacked and judged as randomised",
    "unrepeatable": "equal calls with equal seeds give different answers; attacked and judged as "
    "randomised, and its figures cannot be repeated exactly",
    "changing": "answers equal images otherwise in a later call; every call finds it in the state "
    "that it came in",
    "sees gradients": "answers otherwise where a gradient is wanted; attacks estimate one from its "
    "answers",
    "training mode": "answers otherwise in training mode; it is called in evaluation mode",
    "mixes images": "the answer to an image depends on the other images of its batch; it is given "
    "one image at a time",
    "single images": "answers an image that is alone in its batch otherwise than one among others; "
    "the figures are those among others, and a single image is given to it with a copy",
    "not finite": "some of its outputs are not finite",
    "fails": "ends in an error on some images or in a later call; where it does, it has answered "
    "wrong",
}
"""The same of a classifier."""

_CALLS = 32
"""With equal images, to find what counts its calls."""
_DRAWS = 16
"""Of what is randomised, to find out what its batch changes."""
_DIRECTIONS = 12
_STEPS = (0.02, 0.002)
"""Lengths of finite differences in pixels; a right gradient agrees with one of them."""
_AGREES = 0.8
"""Correlation with finite differences from which on a gradient is taken for the derivative."""
_APART = 20.0
"""Times that the sizes of both may differ by."""
_SAME, _ALIKE = 1e-5, 2e-4
"""Differences up to which answers are equal: to rounding, and to that of other batches."""


class Looks:
    """Looks at something, which is made afresh for each so that none changes what the next finds.

    Attributes:
        found: names of `DEFENCE` and `CLASSIFIER`.
        treatment: what follows from them for a defence.
        answer: to the images.
        seconds_each: that one image took.
    """

    def __init__(self, make: Callable[[bool], Call], images: Tensor, seconds: float) -> None:
        """
        Args:
            make: makes it in its first state; in training mode or as it is.
            images: [N, C, H, W] that it is shown.
            seconds: about how long all looks may take.
        """
        self._make, self._images, self._seconds = make, images, seconds
        self._is_random, self._is_repeatable = False, True
        self.found: list[str] = []
        self.treatment = NO_TREATMENT
        began = time.perf_counter()
        self.answer = self._ask()
        self.seconds_each = (time.perf_counter() - began) / len(images)

    def all(self, *, differentiable: bool | None, randomised: bool | None) -> None:
        """All looks but that at its input.

        Args:
            differentiable, randomised: what it says of itself; None where it says nothing.
        """
        if not self.answer.isfinite().all():
            self.found.append("not finite")
        self._try(self._repeated)
        if self._is_repeatable:
            self._try(lambda: self._seeded(randomised))
            self._differentiated()
            with suppress(Exception):  # it cannot be trained
                if not _same(self._ask(training=True), self.answer):
                    self.found.append("training mode")
        if len(self._images) > 1:
            self._among_others()
        if differentiable is not False and not self.treatment.unseen:
            self._try(lambda: self._derived(differentiable))

    def input(self, purifier: object) -> None:
        """Whether a purifier returns its input, a view of it, or changes it."""
        given = self._images.clone()
        with suppress(Exception):  # `all` has called it
            found = purifier(given, ids=list(range(len(given))), seed=0)  # type: ignore[operator]  # it is one
            if found.untyped_storage().data_ptr() == given.untyped_storage().data_ptr():
                self.found.append("input returned")
        if not torch.equal(given, self._images):
            self.found.append("input changed")
            self.treatment = replace(self.treatment, copied=True)

    def _try(self, look: Callable[[], None]) -> None:
        """Take a look; what it is shown may end the code of a user in an error."""
        try:
            look()
        except Exception:
            if "fails" not in self.found:
                self.found.append("fails")

    # --- One look each ---------------------------------------------------------------------------

    def _repeated(self) -> None:
        """Whether equal calls get equal answers."""
        few, own = self._images[:2], self._make(False)
        first = self._ask(own, few)
        calls = self._affordable(4, 2, _CALLS)
        if all(_same(self._ask(own, few), first) for _ in range(calls)):
            return
        if _same(self._ask(images=few), first):
            self.found.append("changing")
            self.treatment = replace(self.treatment, restored=True)
        else:
            self.found.append("unrepeatable")
            self.treatment = replace(self.treatment, randomised=True)
            self._is_random, self._is_repeatable = True, False

    def _seeded(self, said: bool | None) -> None:
        """Whether another seed gives another answer."""
        others = [self._ask(seed=seed) for seed in (1, 2)]
        self._is_random = not all(_same(other, self.answer) for other in others)
        if self._is_random and said is False:
            self.found.append("random")
        if said is None or (self._is_random and not said):
            self.treatment = replace(self.treatment, randomised=self._is_random)

    def _differentiated(self) -> None:
        """Whether it answers otherwise where a gradient is wanted, or none is."""
        found = []
        with suppress(Exception), torch.no_grad():
            found.append(self._ask())
        with suppress(Exception):
            found.append(self._ask(images=self._images.clone().requires_grad_()))
        if not all(_same(other, self.answer) for other in found):
            self.found.append("sees gradients")
            self.treatment = replace(self.treatment, unseen=True, differentiable=False)

    def _among_others(self) -> None:
        """Whether the answer to an image depends on the others of its batch, or on there being any.

        One that depends on the others is asked about each image alone, or beside a copy of it where
        that answer is clearly nearer to those in batches.
        """
        seeds = range(self._affordable(8, 4, _DRAWS) if self._is_random else 1)
        order = [0, *reversed(range(1, len(self._images)))]
        others = self._images[order].clone()
        others[1:] = 1 - others[1:]
        with suppress(Exception):  # some take no batch of one
            single = self._images[:1]
            together, among, alone, doubled = (
                torch.stack([self._ask(None, shown, ids, seed)[0] for seed in seeds])
                for shown, ids in (
                    (self._images, None),
                    (others, order),
                    (single, None),
                    (torch.cat((single, single)), [0, 0]),
                )
            )
            mixes = not _alike(together, among)
            apart = not _alike(together, alone)
            near = _distance(together, doubled) < _distance(together, alone) / 2
            if mixes or (apart and not near):
                self.found.append("mixes images")
                self.treatment = replace(self.treatment, singly=True)
            if apart and near:
                self.found.append("single images")
                self.treatment = replace(self.treatment, accompanied=True)

    def _derived(self, said: bool | None) -> None:
        """Whether its gradient is its derivative, along random signs."""
        generator = torch.Generator().manual_seed(0)
        # Away from 0 and 1, where cuts have no derivative, and from ties, where medians have none.
        x = 0.1 + 0.8 * self._images
        x = x + 0.05 * torch.rand(x.shape, generator=generator).to(x)
        weights = torch.randn(self.answer.shape, generator=generator).double()

        def value(points: Tensor) -> Tensor:
            answers = self._as_treated(points).double()
            return (answers * weights.to(answers)).flatten(1).sum(dim=1)

        def refused(name: str) -> None:
            if said:
                self.found.append(name)
                self.treatment = replace(self.treatment, differentiable=False)

        moving = x.clone().requires_grad_()
        gradient: Tensor | None = None
        with torch.enable_grad(), suppress(RuntimeError):
            found = value(moving)
            if not found.requires_grad:
                return refused("detached")
            (gradient,) = torch.autograd.grad(found.sum(), moving, allow_unused=True)
        if gradient is None or not gradient.any():
            return refused("zero gradient")
        if not self._is_repeatable:
            return None
        agreements = []
        with torch.no_grad():
            for step in _STEPS:
                slopes, expected = [], []
                for _ in range(self._affordable(8, 3, _DIRECTIONS)):
                    sign = 2.0 * torch.randint(2, x.shape, generator=generator).to(x) - 1
                    rise = value(x + step * sign) - value(x - step * sign)
                    slopes.append(rise / (2 * step))
                    expected.append((gradient * sign).double().flatten(1).sum(dim=1))
                agreements.append(_agreement(torch.cat(expected), torch.cat(slopes)))
        if max(agreements) < _AGREES:
            refused("wrong gradient")
        elif said is None:
            self.treatment = replace(self.treatment, differentiable=True)
        return None

    # --- Calls -----------------------------------------------------------------------------------

    def _ask(
        self,
        call: Call | None = None,
        images: Tensor | None = None,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
        training: bool = False,
    ) -> Tensor:
        """A detached answer, by default of a fresh one to all images."""
        call = call or self._make(training)
        shown = self._images if images is None else images
        # A leaf that wants a gradient is shown as it is.
        given = shown if shown.requires_grad else shown.clone()
        return call(given, range(len(shown)) if ids is None else ids, seed).detach().clone()

    def _as_treated(self, points: Tensor) -> Tensor:
        """The answers of fresh ones, to one image at a time where that is its treatment."""
        points, ids = points.clone(), range(len(points))
        if not self.treatment.singly:
            return self._make(False)(points, ids, 0)
        alone = zip(torch.split(points, 1), ids, strict=True)
        return torch.cat([self._make(False)(point, [id_], 0) for point, id_ in alone])

    def _affordable(self, part: int, least: int, most: int) -> int:
        """How many calls a part of the time allows."""
        each = max(self.seconds_each * len(self._images), 1e-6)
        return max(least, min(most, int(self._seconds / part / each)))


def _same(one: Tensor, other: Tensor) -> bool:
    return _distance(one, other) <= _SAME


def _distance(one: Tensor, other: Tensor) -> float:
    """The largest difference of answers, beside the range of the second; inf for another shape."""
    if one.shape != other.shape:
        return torch.inf
    a, b = one.double().nan_to_num(), other.double().nan_to_num()
    scale = float(b.amax() - b.amin()) or float(b.abs().amax()) or 1.0
    return float((a - b).abs().amax()) / scale


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether answers [draws, ...] have the same mean, as far as the draws can tell."""
    if one.shape != other.shape:
        return False
    if len(one) == 1:
        return _distance(one, other) <= _ALIKE
    a, b = one.double().flatten(1).nan_to_num(), other.double().flatten(1).nan_to_num()
    variance = (a.var(dim=0) + b.var(dim=0)) / len(a)
    difference = (a.mean(dim=0) - b.mean(dim=0)).square()
    floor = (_ALIKE * float(a.amax() - a.amin())) ** 2
    # Four standard errors, since all pixels may be drawn together.
    return float(difference.sum()) <= 16 * float((variance + floor).sum())


def _agreement(expected: Tensor, found: Tensor) -> float:
    """The correlation of slopes around 0; 0 where their sizes have nothing to do with each other,
    and where some are not finite."""
    own, other = float(expected.norm()), float(found.norm())
    if not 1 / _APART < own / max(other, 1e-300) < _APART:  # neither of a NaN
        return 0.0
    return float(expected @ found) / (own * other)
