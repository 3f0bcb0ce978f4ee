"""A batch of images under one attack: attacked, purified, classified and compared."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ridefense import memory
from ridefense.attacks import AttackOutcome
from ridefense.attacks.base import Cost
from ridefense.attacks.diagnostics import Diagnostics
from ridefense.attacks.norms import NORMS
from ridefense.classifiers import Classifier
from ridefense.datasets import Dataset
from ridefense.errors import InputError, RideError
from ridefense.estimate import Estimate
from ridefense.estimators import Estimator
from ridefense.evaluate import workers
from ridefense.evaluate.evaluation import Evaluation, Threat
from ridefense.evaluate.history import History, Watch
from ridefense.evaluate.lines import DEFENCE_FAILED, FAILED, UNREADABLE
from ridefense.evaluate.rows import REFUSED, Row
from ridefense.evaluate.sharing import GrayBoxImages
from ridefense.filters import Unchanged
from ridefense.noise import derive
from ridefense.purifier import DefendedModel, Purifier, purified_by
from ridefense.usercode import explained

FAULTS = {
    "nan": "the attack's image had NaN or infinity; those pixels were taken from the clean image",
    "range": "the attack's image left [0, 1]; it was clamped",
    "eps": "the attack's image is further from the clean one than ε",
    "purifier": "the purified image had NaN or infinity in some draw",
    DEFENCE_FAILED: "the defence ended in an error, which counts as a wrong answer",
    FAILED: "the attack ended in an error; the image counts as not attacked",
    UNREADABLE: "the image could not be decoded; it is left out of n",
}
"""What a row may say was wrong with an image. All but the last three are evaluated as well."""


@dataclass(frozen=True)
class Chunk:
    """A unit of work: some consecutive images, one attack, one seed.

    Attributes:
        seed: of the attack's and the defence's randomness.
        start: the place of the first image.
        attack: its label in `Evaluation.attacks`, or "none" for clean images.
    """

    seed: int
    start: int
    attack: str


Outcome = workers.Outcome[Row]
"""A row and its images, or none: "final" and "purified" (in the first draw), each [C, H, W], and
if the evaluation asks for a history, what `Watch.histories` returns."""

_Told = Callable[[float], None]


@dataclass(frozen=True)
class _Batch:
    """Images that are evaluated together, [N, C, H, W] on the device of the evaluation."""

    images: Tensor
    ids: list[int]
    labels: list[int]

    def only(self, i: int) -> "_Batch":
        """The image at a place, by itself."""
        return _Batch(self.images[i : i + 1], self.ids[i : i + 1], self.labels[i : i + 1])


@dataclass(frozen=True)
class _Attacked:
    """What an attack made of N images.

    Attributes:
        images: [N, C, H, W], which a purifier can take.
        faults: what was wrong with each.
        searches: how each was searched for.
        costs: what was asked on the way.
        errors: what ended the attack on it, if anything.
    """

    images: Tensor
    faults: list[tuple[str, ...]]
    searches: list[Diagnostics | None]
    costs: list[Cost | None]
    errors: list[str | None]

    @classmethod
    def joined(cls, parts: "Sequence[_Attacked]") -> "_Attacked":
        """The parts one after the other."""
        return cls(
            torch.cat([part.images for part in parts]),
            [each for part in parts for each in part.faults],
            [each for part in parts for each in part.searches],
            [each for part in parts for each in part.costs],
            [each for part in parts for each in part.errors],
        )


@dataclass(frozen=True)
class _Draw:
    """One run of the purifier on N images; `fit` is what an estimator returned."""

    seed: int
    images: Tensor
    fit: Estimate | None

    @property
    def broken(self) -> list[bool]:
        """Which images came out with NaN or infinity."""
        found: list[bool] = (~self.images.isfinite()).flatten(1).any(dim=1).tolist()
        return found


def outcomes(
    evaluation: Evaluation,
    chunk: Chunk,
    data: Dataset,
    progress: _Told | None,
    shared: GrayBoxImages | None,
) -> list[Outcome]:
    """A row for each image of a chunk, or of a part of it.

    Args:
        progress: called with the fraction that is done.
        shared: images of gray-box attacks that other evaluations in this process found.
    """
    _, classifier = evaluation.loaded()
    clean = _Batch(data.images.to(evaluation.device), data.ids.tolist(), data.labels.tolist())
    n = len(clean.ids)

    began = time.perf_counter()
    threat = evaluation.attacks.get(chunk.attack)
    attacked = _Attacked(clean.images, [()] * n, [None] * n, [None] * n, [None] * n)
    if threat is not None:
        attacked = _attack_each(
            evaluation, threat, chunk.seed, clean, part(progress, 0, 0.7), shared
        )
    attack_seconds = (time.perf_counter() - began) / n

    began = time.perf_counter()
    seeds = evaluation.draw_seeds(chunk.seed, threat)
    watched = evaluation.every and isinstance(evaluation.purifier, Estimator)
    watch = Watch() if watched else None
    move = part(progress, 0.7 if threat else 0, 1)
    draws = _draws(evaluation, seeds, attacked.images, clean.ids, watch, move)
    purify_seconds = (time.perf_counter() - began) / len(draws) / n

    called = evaluation.treated(classifier)
    predictions = _predictions(evaluation, called, attacked.images, draws, clean.ids)
    distances = _distances(clean.images, attacked.images, draws[0].images)
    histories = _histories(watch, draws[0], classifier, clean, attacked.images)
    fits = [draw.fit for draw in draws if draw.fit]
    broken = torch.tensor([draw.broken for draw in draws]).any(dim=0).tolist()
    found = []
    for i, image in enumerate(clean.ids):
        history, kept = histories[i]
        row = Row(
            image=image,
            attack=chunk.attack,
            seed=chunk.seed,
            label=clean.labels[i],
            predictions=tuple(classes[i] for classes in predictions.defended),
            bare=predictions.bare[i],
            rounded=predictions.rounded[i] if predictions.rounded else None,
            linf=distances["linf"][i],
            l2=distances["l2"][i],
            purified_clean=distances["purified_clean"][i],
            purified_final=distances["purified_final"][i],
            final_clean=distances["final_clean"][i],
            faults=attacked.faults[i] + (("purifier",) if broken[i] else ()),
            refits=sum(int(fit.attempts[i]) for fit in fits),
            engine=fits[0].engine if fits else None,
            purify_seconds=purify_seconds,
            attack_seconds=attack_seconds,
            peak_megabytes=memory.peak_megabytes(evaluation.device),
            history=history,
            search=attacked.searches[i],
            cost=attacked.costs[i],
            error=attacked.errors[i],
        )
        images = {"final": attacked.images[i], "purified": draws[0].images[i]}
        found.append((row, images | kept))
    return found


def part(progress: _Told | None, start: float, end: float) -> _Told | None:
    """Progress of a part, as progress of the whole."""
    if progress is None:
        return None
    return lambda fraction: progress(start + (end - start) * fraction)


# --- Attack --------------------------------------------------------------------------------------


def _attack_each(
    evaluation: Evaluation,
    threat: Threat,
    seed: int,
    clean: _Batch,
    progress: _Told | None,
    shared: GrayBoxImages | None,
) -> _Attacked:
    """An attack; where it ends in an error, and that is tolerated, on each image by itself."""
    try:
        return _attack(evaluation, threat, seed, clean, progress, shared)
    except Exception as error:
        if not evaluation.tolerant or memory.is_exhausted(error):
            raise
        if len(clean.ids) == 1:
            told = one_line(error)
            return _Attacked(clean.images, [(FAILED,)], [None], [None], [told])
    parts = [clean.only(i) for i in range(len(clean.ids))]
    return _Attacked.joined(
        [_attack_each(evaluation, threat, seed, one, None, shared) for one in parts]
    )


def one_line(error: Exception) -> str:
    """An error for a row: of ridefense its message, of others what they are."""
    told = " ".join(str(error).split()) if isinstance(error, RideError) else explained(error)
    return told[:300]


def _attack(
    evaluation: Evaluation,
    threat: Threat,
    seed: int,
    clean: _Batch,
    progress: _Told | None,
    shared: GrayBoxImages | None,
) -> _Attacked:
    _, loaded = evaluation.loaded()
    model = classifier = evaluation.treated(loaded)
    if threat.gradient is not None:
        model = evaluation.purifier.behind(classifier, threat.gradient)

    def attack() -> AttackOutcome:
        return threat.attack.run(
            model,
            clean.images,
            torch.tensor(clean.labels, device=clean.images.device),
            ids=clean.ids,
            seed=derive(seed, "attack"),
            progress=(lambda done, total: progress(done / total)) if progress else None,
        )

    if shared is not None and threat.gradient is None:
        found = shared.found(evaluation.gray_box_key(threat, seed, clean.ids), attack)
    else:
        found = attack()
    images, faults = _checked(found.images, clean.images, threat)
    count = len(clean.ids)
    return _Attacked(images, faults, list(found.diagnostics), [found.cost] * count, [None] * count)


def _checked(found: Tensor, clean: Tensor, threat: Threat) -> tuple[Tensor, list[tuple[str, ...]]]:
    """An attack's images, made such that a purifier can take them, and what was wrong with them.

    Raises:
        InputError: if they are not even of the clean images' shape.
    """
    if found.shape != clean.shape:
        raise InputError(
            f"attack {threat.name} returned {tuple(found.shape)} for {tuple(clean.shape)}; "
            "let it return images of their shape"
        )
    nan = ~found.isfinite()
    final = torch.where(nan, clean, found.to(clean))
    outside = (final < 0) | (final > 1)
    final = final.clamp(0, 1)
    # An ε of float32 images is kept to rounding: a few units in the last place of a pixel.
    norm, eps = threat.attack.norm, threat.attack.eps
    size = _distance(final, clean, norm) if norm in NORMS else [0.0] * len(clean)
    far = torch.tensor(size) > eps * (1 + 1e-5) + 1e-6
    faults = {
        "nan": nan.flatten(1).any(dim=1),
        "range": outside.flatten(1).any(dim=1),
        "eps": far,
    }
    return final, [
        tuple(name for name, which in faults.items() if which[i]) for i in range(len(clean))
    ]


# --- Purifier ------------------------------------------------------------------------------------


def _draws(
    evaluation: Evaluation,
    seeds: list[int],
    images: Tensor,
    ids: list[int],
    watch: Watch | None,
    progress: _Told | None,
) -> list[_Draw]:
    """A run of the purifier for each seed; the first is watched.

    A deterministic one before a classifier that draws is run once.
    """
    purifier = evaluation.purifier
    draws: list[_Draw] = []
    for seed in seeds:
        if draws and not purifier.is_randomised:
            draws.append(replace(draws[0], seed=seed))
        else:
            watching = None if draws else watch
            draws.append(_purify(purifier, images, ids, seed, watching, evaluation.every))
        if progress:
            progress(len(draws) / len(seeds))
    return draws


def _purify(
    purifier: Purifier,
    images: Tensor,
    ids: list[int],
    seed: int,
    watch: Watch | None = None,
    every: int | None = None,
) -> _Draw:
    if isinstance(purifier, Estimator):
        every = every if watch else None
        fit = purifier.estimate(images, ids=ids, seed=seed, callback=watch, every=every)
        return _Draw(seed, fit.value, fit)
    return _Draw(seed, purified_by(purifier, images, ids, seed), None)


def _histories(
    watch: Watch | None, draw: _Draw, classifier: Classifier, clean: _Batch, final: Tensor
) -> list[tuple[History | None, dict[str, Tensor]]]:
    """Of each image, the history of its fit and the images that go with it; none unless watched."""
    if watch is None or draw.fit is None:
        return [(None, {})] * len(clean.ids)
    return [*watch.histories(draw.fit, classifier, clean.images, final, clean.ids, clean.labels)]


# --- Classifier ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Predictions:
    """Classes of N images, -1 where the logits are not finite, `REFUSED` for a refusal.

    Attributes:
        defended: on the final images, for each draw.
        bare: of the classifier alone on the final images.
        rounded: on the final images rounded to 8 bits, in the first draw; None if not asked for.
    """

    defended: list[list[int]]
    bare: list[int]
    rounded: list[int] | None


def _predictions(
    evaluation: Evaluation,
    classifier: torch.nn.Module,
    final: Tensor,
    draws: list[_Draw],
    ids: list[int],
) -> _Predictions:
    purifier, first = evaluation.purifier, draws[0]
    model, bare = purifier.behind(classifier), Unchanged().behind(classifier)
    defended = [_predict(model, draw.images, ids, draw.seed) for draw in draws]
    rounded = defended[0] if evaluation.rounded else None
    levels = (final * 255).round() / 255
    if evaluation.rounded and not torch.equal(levels, final):
        again = _purify(purifier, levels, ids, first.seed)
        rounded = _predict(model, again.images, ids, first.seed)
    return _Predictions(defended, _predict(bare, final, ids, first.seed), rounded)


@torch.no_grad()
def _predict(model: DefendedModel, purified: Tensor, ids: list[int], seed: int) -> list[int]:
    logits = model.classified(purified, ids, seed)
    classes = torch.where(logits.isfinite().all(dim=1), logits.argmax(dim=1), -1)
    if model.refuses:
        classes[classes == logits.shape[1] - 1] = REFUSED
    found: list[int] = classes.tolist()
    return found


# --- Distances -----------------------------------------------------------------------------------


def _distances(clean: Tensor, final: Tensor, purified: Tensor) -> dict[str, list[float]]:
    return {
        "linf": _distance(final, clean, "Linf"),
        "l2": _distance(final, clean, "L2"),
        "purified_clean": _mean_absolute(purified, clean),
        "purified_final": _mean_absolute(purified, final),
        "final_clean": _mean_absolute(final, clean),
    }


def _distance(a: Tensor, b: Tensor, norm: str) -> list[float]:
    order = {"Linf": torch.inf, "L2": 2}[norm]
    difference = (a - b).flatten(1).double()
    found: list[float] = torch.linalg.vector_norm(difference, order, dim=1).tolist()
    return found


def _mean_absolute(a: Tensor, b: Tensor) -> list[float]:
    """Per image; NaN of a broken purification counts as the largest difference, 1."""
    difference = (a - b).abs().nan_to_num(1.0, 1.0, 1.0)
    found: list[float] = difference.flatten(1).double().mean(dim=1).tolist()
    return found
