"""AutoAttack and Square by pyautoattack."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ridefense.attacks.base import Asks, Problem, check_ball
from ridefense.attacks.bridges import Bridge, Queried, worst_of
from ridefense.attacks.norms import NormName
from ridefense.attacks.objective import EOT
from ridefense.defended import Defended
from ridefense.engines import Progress
from ridefense.errors import InputError, check_whole
from ridefense.extras import package
from ridefense.logits import logits_of
from ridefense.noise import Id
from ridefense.purifier import Purifier

Flag = Callable[[int, str], None]
"""Called with an image's id and what the library holds against its own result."""

_NEVER_WRONG = 100.0
"""Added to the true class, which moves no search but its end."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Bridge):
    """AutoAttack (Croce & Hein 2020) by pyautoattack; an image that withstands it comes back clean.

    The library lets one draw decide whether an image has to be attacked and whether an attack has
    succeeded. Of a randomised defence that is luck, so "rand" then runs both of its attacks on
    every image, takes where the loss that they average is highest, and lets 20 draws choose.

    Attributes:
        version: "standard" (apgd-ce, apgd-t, fab-t, square) for a deterministic defence, "rand"
            (apgd-ce and apgd-dlr with 20 draws of EOT) for a randomised one, "plus" for all.
        purifier_seed: that of the purifier, where the attacker knows it; by default every query is
            a fresh draw.
    """

    asks: ClassVar[Asks] = "gradients"

    eps: float
    norm: NormName = "Linf"
    version: Literal["standard", "rand", "plus"] = "standard"
    purifier_seed: int | None = None
    revision = 2

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        if self.version not in ("standard", "rand", "plus"):
            raise InputError(f"version is {self.version!r}; use standard, rand or plus")

    @property
    def name(self) -> str:
        return f"AutoAttack {self.version}"

    @property
    def least_classes(self) -> int:
        return 3 if self.version == "rand" else 4

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        return 0, 4000 if self.version == "rand" else 8000

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        on_flag: Flag | None = None,
    ) -> Tensor:
        """As every attack's call.

        Args:
            on_flag: called with the library's flags (a randomised or dynamic defence, gradients of
                zero, Square beating the white box, …); by default they are logged as warnings.
        """
        on_flag = on_flag or (lambda id_, flag: _log.warning("image %d: %s", id_, flag))
        problem = Problem.of(model, images, labels, ids, seed, progress, on_flag)
        return self._attack(problem)

    def _one(
        self, model: Queried, image: Tensor, label: Tensor, id_: int, seed: int, problem: Problem
    ) -> Tensor:
        library = package("pyautoattack", "autoattack")
        classes = self._classes(problem, image)
        # The library counts over a whole process what it takes for a dynamic defence.
        counts = library.autoattack.checks.funcs
        counts.update(dict.fromkeys(counts, 0))
        attack = library.AutoAttack(
            model,
            eps=self.eps,
            norm=self.norm,
            device=image.device,
            seed=seed,
            version=self.version,
        )
        for targeted in (attack.apgd_targeted, attack.fab):
            targeted.n_target_classes = min(targeted.n_target_classes, classes - 1)
        ungated = model.random and self.version == "rand"
        if ungated:
            attack.attacks_to_run = []  # only its checks
        adversarial: Tensor
        with _flags(attack.logger) as flags:
            adversarial, _ = attack.run_standard_evaluation(image, label)
        if ungated:
            points = []
            for loss in ("ce", "dlr"):
                attack.apgd.loss, attack.apgd.seed = loss, seed
                points.append(attack.apgd.perturb(image, label, best_loss=True))
            adversarial = worst_of(problem, points, label, id_, attack.apgd.eot_iter)
        for flag in dict.fromkeys(flags):
            if problem.callback:
                problem.callback(id_, flag)
        return adversarial

    def _classes(self, problem: Problem, image: Tensor) -> int:
        """How many the model has, without a query of its randomness."""
        model = problem.model.classifier if isinstance(problem.model, Defended) else problem.model
        with torch.no_grad():
            found = logits_of(model, image).shape[1]
        if found < self.least_classes:
            raise InputError(
                f"{self.name} needs {self.least_classes} classes, the model has {found}; use "
                "APGD with loss=margin"
            )
        return found


class _Kept(logging.Handler):
    """Keeps warnings."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _flags(logger: logging.Logger) -> Iterator[list[str]]:
    """What is logged inside as a warning, instead of its being printed."""
    messages: list[str] = []
    handler = _Kept(messages)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


@dataclass(frozen=True, kw_only=True)
class Square(Bridge):
    """Square Attack (Andriushchenko et al. 2020) by pyautoattack: random search on the margin.

    An image that withstands it comes back clean. Of a randomised defence, where one wrong answer
    is luck, each query sees the mean probabilities of five draws, the search goes on to the last
    query, and its best point comes back whether or not it suffices.

    Attributes:
        queries: of each restart, at most.
        restarts: from another start, for the images that withstood.
        purifier_seed: as in `AutoAttack`.
    """

    asks: ClassVar[Asks] = "queries"

    eps: float
    norm: NormName = "Linf"
    queries: int = 5000
    restarts: int = 1
    purifier_seed: int | None = None
    revision = 2

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)
        check_whole("queries", self.queries, 1)
        check_whole("restarts", self.restarts, 1)

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        return self.queries * self.restarts * (EOT if purifier.is_randomised else 1), 0

    def _one(
        self, model: Queried, image: Tensor, label: Tensor, id_: int, seed: int, problem: Problem
    ) -> Tensor:
        def averaged(x: Tensor) -> Tensor:
            seen = model.averaged(x, EOT)
            return seen + _NEVER_WRONG * F.one_hot(label, seen.shape[1])

        attack = package("pyautoattack.square", "autoattack").SquareAttack(
            averaged if model.random else model,
            eps=self.eps,
            norm=self.norm,
            n_queries=self.queries,
            n_restarts=self.restarts,
            seed=seed,
            device=image.device,
            resc_schedule=False,
        )
        with torch.no_grad():
            if not model.random:
                found: Tensor = attack.perturb(image.clone(), label)
                return found
            attack.init_hyperparam(image)
            runs = range(self.restarts)
            points = [attack.attack_single_run(image.clone(), label)[1] for _ in runs]
            return worst_of(problem, points, label, id_, EOT)
