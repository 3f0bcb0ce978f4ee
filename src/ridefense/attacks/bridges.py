"""Attacks of other libraries: AutoAttack and Square by pyautoattack, any of foolbox.

Each image is attacked by itself, because the libraries draw a batch's random numbers in one
sequence: so a result does not depend on the batch, and the images that a library drops on the way
keep their ids. Where many images at once pay, on a GPU, `APGD` has AutoAttack's gradient attacks.
"""

import logging
import math
import random
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ridefense import usercode
from ridefense.attacks.answers import Value
from ridefense.attacks.base import Asks, Attack, Problem, check_ball
from ridefense.attacks.losses import check_labels, cross_entropy
from ridefense.attacks.norms import NormName
from ridefense.attacks.objective import EOT, Objective
from ridefense.defended import Defended, is_randomised
from ridefense.describe import Plain
from ridefense.engines import Progress
from ridefense.errors import InputError, RideError
from ridefense.extras import package
from ridefense.images import cut_to_range
from ridefense.logits import is_about_memory, logits_of
from ridefense.noise import Id, derive
from ridefense.purifier import Purifier

Flag = Callable[[int, str], None]
"""Called with an image's id and what the library holds against its own result."""

_ATTEMPTS = 10
_FEW = 10
"""Queries, fewer than any attack makes and more than a library's checks beforehand."""

_BY_DECISIONS = (
    *("additive_noise", "blended_noise", "binarization", "blur", "boundary_attack", "contrast"),
    *("dataset_attack", "hop_skip_jump", "inversion", "pointwise", "saltandpepper"),
)
"""Modules of foolbox whose attacks see classes alone."""

_NEVER_WRONG = 100.0
"""Added to the true class, which moves no search but its end."""

_log = logging.getLogger(__name__)


class _Bridge(Attack):
    """Runs a library on one image after the other, with its random numbers seeded by image."""

    purifier_seed: int | None = None
    redraws = True

    def _run(self, problem: Problem) -> Tensor:
        found = []
        for i, id_ in enumerate(problem.ids):
            found.append(
                self._attacked(problem, problem.images[i : i + 1], problem.labels[i : i + 1], id_)
            )
            problem.progress(i + 1, len(problem.ids))
        return torch.cat(found).to(problem.images)

    def _attacked(self, problem: Problem, image: Tensor, label: Tensor, id_: int) -> Tensor:
        """The adversarial image [1, C, H, W].

        A library leaves alone what its first query finds misclassified. Of a randomised defence
        that may be one unlucky draw of many, so the image is brought before it again.
        """
        seed = derive(problem.seed, self.name, id_)
        for attempt in range(_ATTEMPTS):
            seed = derive(seed, "again", attempt) if attempt else seed
            model = _Queried(
                problem.model, image, label, id_, seed, self.purifier_seed, self.redraws
            )
            with _seeded(seed, image.device), _told(self.name, image):
                found = self._one(model, image, label, id_, seed, problem).detach()
            left_alone = torch.equal(found.to(image), image) and model.calls < _FEW
            if not (left_alone and model.random):
                break
        return found

    @abstractmethod
    def _one(
        self, model: nn.Module, image: Tensor, label: Tensor, id_: int, seed: int, problem: Problem
    ) -> Tensor:
        """What the library makes of the image [1, C, H, W]."""


class _Queried(nn.Module):
    """A model as a library calls it: without ids and seeds, which are supplied here."""

    def __init__(
        self,
        model: nn.Module,
        image: Tensor,
        label: Tensor,
        id_: int,
        seed: int,
        purifier_seed: int | None,
        redraws: bool,
    ) -> None:
        super().__init__()
        self.eval()
        self.calls = 0
        self.random = purifier_seed is None and is_randomised(model)

        # In a closure: as a submodule it would follow a library's .eval() and .to().
        def ask(x: Tensor) -> Tensor:
            self.calls += 1
            x = cut_to_range(x.to(image.dtype))
            if isinstance(model, Defended):
                draw = derive(seed, "query", self.calls * redraws)
                own = draw if purifier_seed is None else purifier_seed
                logits = model(x, ids=[id_] * len(x), seed=own)
            else:
                logits = logits_of(model, x)
            check_labels(label, logits.shape[1])
            return logits

        self.ask = ask

    def forward(self, images: Tensor) -> Tensor:
        return self.ask(images)

    def averaged(self, images: Tensor, draws: int) -> Tensor:
        """The logarithms of the mean probabilities of so many draws, [N, classes]."""
        seen = torch.stack([self(images).log_softmax(dim=1) for _ in range(draws)])
        return seen.logsumexp(dim=0) - math.log(draws)


@contextmanager
def _told(name: str, image: Tensor) -> Iterator[None]:
    """Turn an error of a library into one line; Square's, for one, divides by a fifth of a side."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RideError) or is_about_memory(error):
            raise
        raise InputError(
            f"{name} fails on an image {list(image.shape[1:])} ({usercode.explained(error)}); "
            "use another attack, as PGD, or other images"
        ) from error


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Global generators seeded inside, and outside as they were."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


@dataclass(frozen=True, kw_only=True)
class AutoAttack(_Bridge):
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

    def _one(self, model, image, label, id_, seed, problem) -> Tensor:
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
        with _flags(attack.logger) as flags:
            adversarial, _ = attack.run_standard_evaluation(image, label)
        if ungated:
            points = []
            for loss in ("ce", "dlr"):
                attack.apgd.loss, attack.apgd.seed = loss, seed
                points.append(attack.apgd.perturb(image, label, best_loss=True))
            adversarial = _worst(problem, points, label, id_, attack.apgd.eot_iter)
        for flag in dict.fromkeys(flags):
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


def _worst(problem: Problem, points: list[Tensor], label: Tensor, id_: int, draws: int) -> Tensor:
    """Which of some points, each [1, C, H, W], fools the defence in most draws."""
    asked = Objective(
        model=problem.model,
        labels=label,
        ids=[id_],
        seed=problem.seed,
        loss=cross_entropy,
        eot=draws,
    )
    best, found = points[0], Value.lowest(points[0])
    for point in points:
        value = asked.value(cut_to_range(point.to(problem.images)), "score")
        if value.above(found):
            best, found = point, value
    return best


@contextmanager
def _flags(logger: logging.Logger) -> Iterator[list[str]]:
    """What is logged inside as a warning, instead of its being printed."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


@dataclass(frozen=True, kw_only=True)
class Square(_Bridge):
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
        for name in ("queries", "restarts"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; use a whole number of at least 1"
                )

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        return self.queries * self.restarts * (EOT if purifier.is_randomised else 1), 0

    def _one(self, model, image, label, id_, seed, problem) -> Tensor:
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
                return attack.perturb(image.clone(), label)
            attack.init_hyperparam(image)
            runs = range(self.restarts)
            points = [attack.attack_single_run(image.clone(), label)[1] for _ in runs]
            return _worst(problem, points, label, id_, EOT)


@dataclass(frozen=True, kw_only=True)
class Foolbox(_Bridge):
    """An attack of foolbox, as `Foolbox(attack=HopSkipJumpAttack(constraint="linf"), eps=0.1)`.

    Hard-label attacks walk along a boundary, which has to stand still: all queries of an image see
    one draw of the purifier's randomness. What is found is clipped to eps, whether or not it
    suffices; where no start is found the image comes back clean.

    Attributes:
        attack: foolbox's object; its distance is the norm, ℓ∞ or ℓ2.
        purifier_seed: that of the draw, where the attacker knows it.
    """

    attack: Any
    eps: float
    purifier_seed: int | None = None
    redraws = False

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm)

    @property
    def asks(self) -> Asks:  # type: ignore[override]  # of the library's attack, not of the class
        module = type(self.attack).__module__.rpartition(".")[2]
        return "decisions" if module in _BY_DECISIONS else "gradients"

    @property
    def name(self) -> str:
        return type(self.attack).__name__

    def _asked(self, purifier: Purifier) -> tuple[int, int]:
        steps = getattr(self.attack, "steps", 1)
        return (75 * steps, 0) if self.asks == "decisions" else (0, steps)

    @property
    def norm(self) -> NormName:
        order = getattr(getattr(self.attack, "distance", None), "p", None)
        norms: dict[float, NormName] = {2: "L2", float("inf"): "Linf"}
        if order not in norms:
            raise InputError(f"{self.attack} has no ℓ∞ or ℓ2 distance; use an attack that has")
        return norms[order]

    def described(self) -> Plain:
        """See `ridefense.describe`: foolbox's attack is known by how it prints itself."""
        own = {"attack": repr(self.attack), "eps": self.eps, "purifier_seed": self.purifier_seed}
        return {"type": "Foolbox", **own}

    def _one(self, model, image, label, id_, seed, problem) -> Tensor:
        foolbox = package("foolbox", "foolbox")
        bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device=image.device)
        try:
            _, clipped, _ = self.attack(bounded, image, label, epsilons=self.eps)
        except ValueError as error:
            if "init_attack failed" not in str(error):
                raise
            return image
        return clipped
