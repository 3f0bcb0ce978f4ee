"""What every attack is: an object that moves images and owns no model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import astuple, dataclass, fields, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from ridefense.attacks.diagnostics import Diagnostics, Trace, diagnostics
from ridefense.attacks.norms import NORMS, NormName, project
from ridefense.counting import counting
from ridefense.defended import Defended
from ridefense.describe import Plain, describe
from ridefense.engines import Progress
from ridefense.errors import InputError
from ridefense.gradients import GradientMode
from ridefense.images import check_images
from ridefense.models import evaluating
from ridefense.noise import Id, Keys, derive
from ridefense.purifier import Purifier, named

Asks = Literal["gradients", "queries", "decisions", "nothing"]
"""What an attack asks the model for: its gradient, its logits, its classes, or nothing."""


@dataclass(frozen=True)
class Cost:
    """What an attack does to one image, before it is evaluated: about, or as it was counted.

    Attributes:
        purifications: runs of the purifier, or work worth as much.
        forwards: forward passes through the classifier.
        backwards: backward passes through the classifier.
    """

    purifications: int
    forwards: int
    backwards: int


_TRACES: ContextVar[list[Trace] | None] = ContextVar("traces", default=None)
"""The searches that are begun inside `Attack.run`, whatever class's call begins them."""


@dataclass(frozen=True)
class AttackOutcome:
    """What an attack found.

    Attributes:
        images: adversarial images [N, C, H, W].
        diagnostics: of each image's search.
        cost: what was counted, the mean over the images.
    """

    images: Tensor
    diagnostics: tuple[Diagnostics, ...]
    cost: Cost


class Attack(ABC):
    """A threat model (`norm`, `eps`) and a way of searching it."""

    if TYPE_CHECKING:  # as fields or properties of subclasses

        @property
        def norm(self) -> NormName: ...

        @property
        def eps(self) -> float: ...

    asks: ClassVar[Asks] = "gradients"
    """What it asks the model that it is called with; a transfer asks its own source instead."""
    revision: ClassVar[int] = 1
    """Raised where the same settings are to give other images: records tell them apart by it."""

    @property
    def name(self) -> str:
        """As reports call it."""
        return type(self).__name__

    @property
    def least_classes(self) -> int:
        """How many classes the model needs for it."""
        return 2

    def suited_to(self, classes: int) -> "Attack | None":
        """The attack with no more targets than a model has; None where it has too few classes."""
        return self if classes >= self.least_classes else None

    def within(self, norm: NormName, eps: float) -> "Attack | None":
        """The same attack in another ball, with steps of the same share of its radius.

        None where it has no such norm.
        """
        if "norm" not in {f.name for f in fields(cast(Any, self))}:
            return None
        changes: dict[str, Any] = {"norm": norm, "eps": eps}
        return cast(Attack, replace(cast(Any, self), **changes))

    def cost(self, purifier: Purifier, gradient: GradientMode | None) -> Cost:
        """About what it takes on one image.

        Args:
            purifier: the defence that is evaluated.
            gradient: how it is differentiated; None where the attack sees the classifier alone.
        """
        queries, gradients = self._asked(purifier)
        each = 0.0 if gradient is None else gradient.purifications
        runs = 0 if gradient is None else queries + gradients * each
        return Cost(round(runs), queries + gradients, gradients)

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        """How many logits and how many gradients it asks for on one image."""
        return 0, 0

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Tensor:
        """Adversarial images: of the same shape, dtype and device, in [0, 1], within eps, detached.

        Args:
            model: pixels [N, C, H, W] in [0, 1] to logits [N, classes]; a `Defended`, or any
                module without one inside. It is left in the mode (`train` or `eval`) that it is in.
            images: float [N, C, H, W], pixels in [0, 1]; they are not changed.
            labels: int64 [N], the true ones.
            ids: of the images, by default 0, 1, …; with `seed` they decide every random number,
                so that a result does not depend on the batch.
            seed: 0 ≤ seed < 2¹²⁸.
            progress: called with the image-steps done and their total.

        Raises:
            InputError: for images, labels, ids or a model that cannot be attacked.
        """
        return self._attack(Problem.of(model, images, labels, ids, seed, progress))

    def run(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> "AttackOutcome":
        """As a call, with what the search saw of each image."""
        traces: list[Trace] = []
        token = _TRACES.set(traces)
        try:
            with counting() as counts:
                found = self(model, images, labels, ids=ids, seed=seed, progress=progress)
        finally:
            _TRACES.reset(token)
        each = (round(count / len(images)) for count in astuple(counts))
        # A transfer has no search of its own, but its source's.
        searched = max(traces, key=lambda trace: trace.steps, default=None)
        return AttackOutcome(found, diagnostics(searched, images, found), Cost(*each))

    def settings(self) -> Plain:
        """Everything that decides the attack, as JSON data.

        Raises:
            InputError: for a setting that records cannot tell from another, such as a lambda.
        """
        settings: Plain = describe(self)
        return settings

    def _attack(self, problem: "Problem") -> Tensor:
        if self.eps == 0:
            problem.progress(len(problem.images), len(problem.images))
            return problem.images
        with torch.inference_mode(False), torch.enable_grad(), evaluating(problem.model):
            found = self._run(problem).detach()
            return self._bounded(found, problem.images)

    def _bounded(self, found: Tensor, images: Tensor) -> Tensor:
        """What was found, [N, C, H, W], in [0, 1] and within eps of the images."""
        return project(NORMS[self.norm], found, images, self.eps)

    @abstractmethod
    def _run(self, problem: "Problem") -> Tensor:
        """Images [N, C, H, W], near enough to the ball that rounding is all that is left."""


@dataclass(frozen=True)
class Problem:
    """Who is attacked, where: the arguments of a call, checked and complete."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    ids: list[int]
    seed: int
    progress: Progress
    trace: Trace
    callback: Callable[..., None] | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        ids: Sequence[Id] | None,
        seed: int,
        progress: Progress | None,
        callback: Callable[..., None] | None = None,
    ) -> "Problem":
        check_images(images)
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.ndim != 1:
            raise InputError(f"labels are {labels!r:.60}; pass an integer tensor [N]")
        if len(labels) != len(images):
            raise InputError(f"{len(labels)} labels for {len(images)} images; pass one an image")
        if labels.min() < 0:
            raise InputError(f"a label is {labels.min()}; use class numbers from 0")
        if not isinstance(model, nn.Module):
            raise InputError(f"model is {named(model)}; pass an nn.Module, as Defended(…)")
        inside = any(isinstance(part, Defended) for part in model.modules())
        if inside and not isinstance(model, Defended):
            raise InputError(
                f"the model is a {type(model).__name__} around a Defended, whose seeds no attack "
                "could set; pass the Defended itself"
            )
        keys = Keys.of(seed, ids, len(images), images.device)
        with torch.inference_mode(False):
            own = images.detach().clone()
            labels = labels.to(images.device, torch.int64).clone()
            trace = Trace(numbers := keys.ids.tolist(), images.device)
        traces = _TRACES.get()
        if traces is not None:
            traces.append(trace)
        progress = progress or (lambda done, total: None)
        return cls(model, own, labels, numbers, keys.seed, progress, trace, callback)


def check_ball(eps: float, norm: str) -> None:
    """Refuse an ε or a norm that is none, and an ℓ∞ radius of another scale of pixels."""
    if not (isinstance(eps, Real) and 0 <= eps < float("inf")):
        raise InputError(f"eps is {eps!r}; use a number of at least 0")
    if norm == "Linf" and eps > 1:
        raise InputError(
            f"eps is {eps:g}; pixels lie in [0, 1], so {eps:g} of 255 is {eps / 255:.3g}"
        )
    if norm not in NORMS:
        raise InputError(f"norm is {norm!r}; use {' or '.join(NORMS)}")


@dataclass(frozen=True, kw_only=True)
class Unattacked(Attack):
    """No attack: the images as they are."""

    asks: ClassVar[Asks] = "nothing"

    @property
    def eps(self) -> float:
        return 0.0

    @property
    def norm(self) -> NormName:
        return "Linf"

    def _run(self, problem: Problem) -> Tensor:
        return problem.images


@dataclass(frozen=True, kw_only=True)
class UniformNoise(Attack):
    """No attack either: one point, drawn uniformly from the ball. Every attack has to beat it."""

    eps: float
    norm: NormName = "Linf"
    asks: ClassVar[Asks] = "nothing"

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)

    def _run(self, problem: Problem) -> Tensor:
        x = problem.images
        keys = Keys.of(derive(problem.seed, "noise"), problem.ids, len(x), x.device)
        return x.double() + self.eps * NORMS[self.norm].uniform(keys, 0, x.shape)
