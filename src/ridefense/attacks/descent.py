"""The template of iterative attacks (restarts, targets, EOT), and FGSM and PGD on it."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from ridefense.attacks.answers import Value
from ridefense.attacks.base import Asks, Attack, Problem, check_ball
from ridefense.attacks.losses import Loss, classes_of, cross_entropy, likeliest_others
from ridefense.attacks.norms import NORMS, Norm, NormName, project
from ridefense.attacks.objective import Objective
from ridefense.describe import Plain
from ridefense.engines import Progress
from ridefense.errors import InputError, check_whole
from ridefense.noise import Id, Keys, derive
from ridefense.purifier import Purifier


@dataclass(frozen=True)
class Iterate:
    """A point that an attack has reached and asked the model about.

    Attributes:
        run: number of the restart, from 0; with targets they count on.
        step: steps taken so far, from 0.
        images: [N, C, H, W]; fewer than all, where a restart leaves out what is broken.
        value: what was seen there.
        ids: of the images.
    """

    run: int
    step: int
    images: Tensor
    value: Value
    ids: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Iterative(Attack):
    """An attack that climbs the loss step by step, from one or several starting points.

    Attributes:
        eps: radius of the ball, in pixels of [0, 1].
        norm: "Linf" or "L2".
        steps: of each run.
        loss: what is maximised, see `losses.py`.
        eot: draws of the purifier's randomness averaged in every step.
        restarts: runs, of which each image keeps the one that left it worst: most often
            misclassified over fresh draws (`eot`, of a randomised defence at least five), then with
            the highest loss. Those after the first start at random, and leave out images
            misclassified in all draws.
        targets: 0, or the number of the likeliest wrong classes of the image as it is that are
            aimed at in turn, each with all restarts (Croce & Hein 2020).
        random_start: whether the first run, too, starts at random: uniform in the ball.
        purifier_seed: the seed of the purifier, where the attacker knows it; by default he does
            not, and every step sees fresh noise.
        batch: images times draws that the model is given at once: changes memory, and a result by
            no more than the model's own rounding.
    """

    asks: ClassVar[Asks] = "gradients"

    eps: float
    norm: NormName = "Linf"
    steps: int = 10
    loss: Loss = cross_entropy
    eot: int = 1
    restarts: int = 1
    targets: int = 0
    random_start: bool = False
    purifier_seed: int | None = None
    batch: int = 128

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        least = {"steps": 1, "eot": 1, "restarts": 1, "targets": 0, "batch": 1}
        for name, low in least.items():
            check_whole(name, getattr(self, name), low)
        if not callable(self.loss):
            raise InputError(f"loss is {self.loss!r}; use a function, as attacks.margin")
        if self.purifier_seed is not None and self.eot > 1:
            raise InputError(
                f"eot is {self.eot} with a known purifier_seed, where every draw is the same; use 1"
            )

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        callback: Callable[[Iterate], None] | None = None,
    ) -> Tensor:
        """As every attack's call; `callback` sees each `Iterate` that the model is asked about.

        So not PGD's last, which is returned unseen; APGD returns the worst of those seen.

        Warns:
            RuntimeWarning: that names the images whose logits or gradients were not finite.
        """
        problem = Problem.of(model, images, labels, ids, seed, progress, callback)
        return self._attack(problem)

    @property
    def least_classes(self) -> int:
        return classes_of(self.loss, bool(self.targets))

    def suited_to(self, classes: int) -> Self | None:
        fewer = replace(self, targets=min(self.targets, classes - 1))
        return fewer if classes >= fewer.least_classes else None

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        return 0, self.runs * self.steps * self.eot

    @property
    def runs(self) -> int:
        """How many ascents: restarts, for each target where there are any."""
        return self.restarts * max(1, self.targets)

    @abstractmethod
    def climb(self, run: "Ascent", images: Tensor) -> Tensor:
        """From `images` [N, C, H, W] to better ones, `run.steps` at most."""

    def _run(self, problem: Problem) -> Tensor:
        x, norm = problem.images, NORMS[self.norm]
        objective = Objective(
            model=problem.model,
            labels=problem.labels,
            ids=problem.ids,
            seed=problem.seed,
            loss=self.loss,
            eot=self.eot,
            purifier_seed=self.purifier_seed,
            batch=self.batch,
            trace=problem.trace,
        )
        aims = [None]
        if self.targets:
            aims = list(likeliest_others(objective.logits(x, "aim"), problem.labels, self.targets))
        runs = [(aim, restart) for aim in aims for restart in range(self.restarts)]
        best, found = x.clone(), Value.lowest(x)
        rows = torch.arange(len(x), device=x.device)
        for index, (aim, restart) in enumerate(runs):
            part = replace(objective, targets=aim).of(rows)
            run = Ascent(part, norm, x[rows], index, len(runs), self.steps, problem)
            start = run.random_start(self.eps) if restart or self.random_start else x[rows]
            end = self.climb(run, start)
            if len(runs) == 1:
                best = end
                break
            value = objective.of(rows).judge.value(end, "score")
            better = value.above(found.of(rows))
            best[rows[better]] = end[better]
            found.put(rows[better], value.of(better))
            rows = rows[found.wrong[rows] < 1]
            if not len(rows):
                break
        problem.progress(len(x) * len(runs) * self.steps, len(x) * len(runs) * self.steps)
        if problem.trace.not_finite:
            warnings.warn(
                f"{self.name}: logits or gradients of images {problem.trace.not_finite} were not "
                "finite; they were not moved along them",
                RuntimeWarning,
                stacklevel=4,
            )
        return best


@dataclass(frozen=True)
class Ascent:
    """One run of an attack: from one start, for some of the images."""

    objective: Objective
    norm: Norm
    centre: Tensor
    index: int
    count: int
    steps: int
    problem: Problem

    def random_start(self, eps: float) -> Tensor:
        """Uniform in the ball of radius eps, then cut to [0, 1]."""
        x = self.centre
        keys = Keys.of(derive(self.problem.seed, "start"), self.objective.ids, len(x), x.device)
        moved = x.double() + eps * self.norm.uniform(keys, self.index, x.shape)
        return project(self.norm, moved, x, eps)

    def gradient(self, images: Tensor, step: int) -> tuple[Value, Tensor]:
        """What `Objective.gradient` answers at this step; tells progress and callback."""
        value, gradient = self.objective.gradient(images, self.index, step)
        self.saw(images, step, value)
        return value, gradient

    def saw(self, images: Tensor, step: int, value: Value) -> None:
        problem = self.problem
        ids = self.objective.ids
        problem.trace.saw(ids, step, value.loss, value.wrong)
        if problem.callback:
            problem.callback(Iterate(self.index, step, images.clone(), value, ids))
        total = len(problem.images) * self.count * self.steps
        done = len(problem.images) * self.index * self.steps + len(images) * min(
            step + 1, self.steps
        )
        problem.progress(done, total)


class _FollowsEps(float):
    """A step size that was not given: `dataclasses.replace` with another eps computes it anew."""


@dataclass(frozen=True, kw_only=True)
class PGD(Iterative):
    """Projected gradient descent (Madry et al. 2018); around a `Defended`, BPDA.

    The defaults are the paper's white-box attack: 10 steps of eps / 5 from the image itself.

    Attributes:
        step_size: of every step, in `norm`; by default eps / 5.
    """

    step_size: float | None = None
    _share: ClassVar[float] = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size is None or isinstance(self.step_size, _FollowsEps):
            object.__setattr__(self, "step_size", _FollowsEps(self._share * self.eps))
        if not 0 <= self.step_length < float("inf"):
            raise InputError(f"step_size is {self.step_size}; use a number of at least 0")

    def within(self, norm: NormName, eps: float) -> Self:
        step = self.step_size  # which follows eps by itself, unless it was given
        if not isinstance(step, _FollowsEps):
            step = self.step_length * eps / self.eps
        return replace(self, norm=norm, eps=eps, step_size=step)

    @property
    def step_length(self) -> float:
        """The step size, given or not."""
        assert self.step_size is not None  # since __post_init__
        return self.step_size

    @classmethod
    def derived_defaults(cls, settings: Plain) -> Plain:
        """The defaults that follow from other settings, for records."""
        return {"step_size": cls._share * settings["eps"]}

    def climb(self, run: Ascent, images: Tensor) -> Tensor:
        for step in range(self.steps):
            _, gradient = self._gradient(run, images, step)
            moved = images + self.step_length * run.norm.steepest(gradient)
            images = project(run.norm, moved, run.centre, self.eps)
        return images

    def _gradient(self, run: Ascent, images: Tensor, step: int) -> tuple[Value, Tensor]:
        return run.gradient(images, step)


@dataclass(frozen=True, kw_only=True)
class FGSM(PGD):
    """Fast gradient sign method (Goodfellow et al. 2015): PGD with one step of eps."""

    steps: int = field(default=1, init=False)
    _share: ClassVar[float] = 1.0
