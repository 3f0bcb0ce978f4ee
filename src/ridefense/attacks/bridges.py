"""Attacks of other libraries: AutoAttack and Square by pyautoattack, any of foolbox.

Each image is attacked by itself, because the libraries draw a batch's random numbers in one
sequence: so a result does not depend on the batch, and the images that a library drops on the way
keep their ids. Where many images at once pay, on a GPU, `APGD` has AutoAttack's gradient attacks.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ridefense import usercode
from ridefense.attacks.answers import Value
from ridefense.attacks.base import Attack, Problem
from ridefense.attacks.losses import check_labels, cross_entropy
from ridefense.attacks.objective import Objective
from ridefense.defended import Defended
from ridefense.errors import InputError, RideError
from ridefense.images import cut_to_range
from ridefense.logits import logits_of
from ridefense.memory import is_exhausted
from ridefense.models import is_randomised, read_by
from ridefense.noise import derive
from ridefense.treatment import TreatedClassifier

_ATTEMPTS = 10
_FEW = 10
"""Queries, fewer than any attack makes and more than a library's checks beforehand."""


class Bridge(Attack):
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
            model = Queried(
                problem.model, image, label, id_, seed, self.purifier_seed, self.redraws
            )
            with usercode.seeded(seed, image.device), told(self.name, image):
                found = self._one(model, image, label, id_, seed, problem).detach()
            left_alone = torch.equal(found.to(image), image) and model.calls < _FEW
            if not (left_alone and model.random):
                break
        return found

    @abstractmethod
    def _one(
        self, model: "Queried", image: Tensor, label: Tensor, id_: int, seed: int, problem: Problem
    ) -> Tensor:
        """What the library makes of the image [1, C, H, W]."""


class Queried(nn.Module):
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
            if isinstance(model, Defended | TreatedClassifier):
                draw = derive(seed, "query", self.calls * redraws)
                own = draw if purifier_seed is None else purifier_seed
                logits: Tensor = model(x, ids=[id_] * len(x), seed=own)
            else:
                logits = logits_of(model, x)
            logits = read_by(model, logits, label.expand(len(logits)))
            check_labels(label, logits.shape[1])
            return logits

        self.ask = ask

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.ask(images)
        return logits

    def averaged(self, images: Tensor, draws: int) -> Tensor:
        """The logarithms of the mean probabilities of so many draws, [N, classes]."""
        seen = torch.stack([self(images).log_softmax(dim=1) for _ in range(draws)])
        return seen.logsumexp(dim=0) - math.log(draws)


class HeldDraws(nn.Module):
    """A model as a library calls it, which answers every query with the same draws.

    An attack that follows a boundary needs one that stands still. Of a randomised defence the
    logits are the logarithms of the mean probabilities of several draws.

    Args:
        model: pixels to logits.
        ids: of the images that it will be called with, in this order; or one id for all.
        seed: of the draws.
        draws: their number.
        purifier_seed: that of the purifier, where the attacker knows it; then one draw suffices.
        labels: int64 [N], the true classes of these images. Without them a refusal of the model is
            left out instead of being counted for the true class.
    """

    def __init__(
        self,
        model: nn.Module,
        ids: Sequence[int],
        seed: int,
        draws: int,
        purifier_seed: int | None,
        labels: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.eval()
        seeds = [derive(seed, "held", draw) for draw in range(draws)]
        if purifier_seed is not None:
            seeds = [purifier_seed]

        # In a closure: as a submodule it would follow a library's .eval() and .to().
        def ask(images: Tensor) -> Tensor:
            x = cut_to_range(images)
            if not isinstance(model, Defended):
                return logits_of(model, x)
            own = list(ids) * len(x) if len(ids) == 1 else list(ids)
            seen = [model(x, ids=own, seed=each) for each in seeds]
            if labels is not None:
                seen = [read_by(model, logits, labels) for logits in seen]
            elif model.refuses:
                seen = [logits[:, :-1] for logits in seen]
            if len(seen) == 1:
                logits: Tensor = seen[0]
                return logits
            stacked = torch.stack([logits.log_softmax(dim=1) for logits in seen])
            return stacked.logsumexp(dim=0) - math.log(len(seen))

        self.ask = ask

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.ask(images)
        return logits


@contextmanager
def told(name: str, image: Tensor) -> Iterator[None]:
    """Turn an error of a library into one line; Square's, for one, divides by a fifth of a side."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RideError) or is_exhausted(error):
            raise
        raise InputError(
            f"{name} fails on an image {list(image.shape[1:])} ({usercode.explained(error)}); "
            "use another attack, as PGD, or other images"
        ) from error


def worst_of(problem: Problem, points: list[Tensor], label: Tensor, id_: int, draws: int) -> Tensor:
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
