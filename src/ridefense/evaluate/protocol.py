"""How a defence is evaluated: chunk by chunk, each a pure function of the declaration."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ridefense.defended import Defended, Purifier, views
from ridefense.errors import InputError
from ridefense.estimators import Estimator
from ridefense.evaluate.evaluation import Evaluation, Threat
from ridefense.evaluate.records import Records, Run, read
from ridefense.evaluate.rows import CLEAN, Row
from ridefense.noise import derive
from ridefense.rivals.base import Inside

FAULTS = {
    "nan": "the attack's image had NaN or infinity; those pixels were taken from the clean image",
    "range": "the attack's image left [0, 1]; it was clamped",
    "eps": "the attack's image is further from the clean one than ε",
    "purifier": "the purified image had NaN or infinity in some draw",
}
"""What a row may say is wrong (rule 6 of the protocol); such a row was evaluated all the same."""

Progress = Callable[[str, float, int], None]
"""Called with what is being done, the rows done (a fraction within a chunk) and their total."""


@dataclass(frozen=True)
class Chunk:
    """A unit of work: some consecutive images, one attack (or none), one seed."""

    seed: int
    start: int
    threat: Threat | None

    @property
    def attack(self) -> str:
        return CLEAN if self.threat is None else self.threat.label


Outcome = tuple[Row, dict[str, Tensor]]
"""A row and its images "final" and "purified" (in the first draw), each [C, H, W]."""


def run(
    evaluation: Evaluation, folder: str | os.PathLike[str], progress: Progress | None = None
) -> Run:
    """Evaluate, or go on where an earlier run of the same declaration stopped.

    A partly recorded chunk is computed again as a whole and its missing rows are written, so the
    numbers are those of an undisturbed run, bit for bit on the same machine and versions.

    Raises:
        InputError: for a declaration that cannot be carried out, or that is not the folder's.
        RideError: where the folder cannot be written to.
    """
    with Records.open(folder, evaluation.declared()) as records:
        images, _ = evaluation.load()
        chunks = chunks_of(evaluation, len(images))
        total, done = len(images) * len(evaluation.seeds) * (1 + len(evaluation.attacks)), 0
        for chunk in chunks:
            ids = images.ids[chunk.start : chunk.start + evaluation.batch].tolist()
            missing = [i for i in ids if (chunk.attack, chunk.seed, i) not in records]
            if missing:
                doing = "clean images" if chunk.threat is None else chunk.threat.name
                inner = _within(progress, doing, done, len(ids), total)
                for row, kept in evaluate_chunk(evaluation, chunk, inner):
                    if row.image in missing:
                        records.append(row, kept)
            done += len(ids)
            if progress:
                progress("done" if done == total else "", done, total)
    return read(folder)


def chunks_of(evaluation: Evaluation, images: int) -> list[Chunk]:
    """All units of work; their bounds depend on the declaration alone."""
    return [
        Chunk(seed, start, threat)
        for seed in evaluation.seeds
        for start in range(0, images, evaluation.batch)
        for threat in (None, *evaluation.attacks.values())
    ]


def evaluate_chunk(
    evaluation: Evaluation, chunk: Chunk, progress: Callable[[float], None] | None = None
) -> list[Outcome]:
    """Attack and classify a chunk's images: a pure function, for any process to compute.

    Args:
        progress: called with the fraction of the chunk that is done.
    """
    data, classifier = evaluation.load()
    data = data[chunk.start : chunk.start + evaluation.batch]
    ids, labels = data.ids.tolist(), data.labels.tolist()
    clean = data.images.to(evaluation.device)
    share = (lambda a, b: lambda f: progress(a + (b - a) * f)) if progress else (lambda *_: None)

    began = time.perf_counter()
    final, faults = clean, [()] * len(ids)
    if chunk.threat is not None:
        final, faults = _attack(evaluation, chunk, clean, labels, ids, share(0, 0.7))
    attack_seconds = (time.perf_counter() - began) / len(ids)

    began = time.perf_counter()
    seeds = evaluation.draw_seeds(chunk.seed, chunk.threat)
    draws = _draws(evaluation.purifier, seeds, final, ids, share(0.7 if chunk.threat else 0, 1))
    purify_seconds = (time.perf_counter() - began) / len(draws) / len(ids)

    purified = draws[0].images
    model = classifier
    if isinstance(evaluation.purifier, Inside):
        model = evaluation.purifier.defend(classifier)
    predictions = [_predict(model, draw.images, ids, draw.seed) for draw in draws]
    rounded, levels = predictions[0], (final * 255).round() / 255
    if not torch.equal(levels, final):
        again = _purify(evaluation.purifier, levels, ids, draws[0].seed)
        rounded = _predict(model, again.images, ids, draws[0].seed)
    measured = {
        "bare": _predict(classifier, final, ids, draws[0].seed),
        "rounded": rounded,
        "linf": _distance(final, clean, "Linf"),
        "l2": _distance(final, clean, "L2"),
        "purified_clean": _mean_absolute(purified, clean),
        "purified_final": _mean_absolute(purified, final),
        "final_clean": _mean_absolute(final, clean),
    }
    outcomes = []
    for i, image in enumerate(ids):
        row = Row(
            image=image,
            attack=chunk.attack,
            seed=chunk.seed,
            label=labels[i],
            predictions=tuple(prediction[i] for prediction in predictions),
            **{name: values[i] for name, values in measured.items()},
            faults=faults[i] + (("purifier",) if any(draw.broken[i] for draw in draws) else ()),
            refits=sum(draw.refits[i] for draw in draws),
            engine=draws[0].engine,
            purify_seconds=purify_seconds,
            attack_seconds=attack_seconds,
        )
        outcomes.append((row, {"final": final[i].cpu(), "purified": purified[i].cpu()}))
    return outcomes


def _attack(
    evaluation: Evaluation,
    chunk: Chunk,
    clean: Tensor,
    labels: list[int],
    ids: list[int],
    progress: Callable[[float], None] | None,
) -> tuple[Tensor, list[tuple[str, ...]]]:
    """The images that the attack found, fit to be purified, and what was wrong with each."""
    _, model = evaluation.load()
    if chunk.threat.gradient is not None and isinstance(evaluation.purifier, Inside):
        model = evaluation.purifier.defend(model)
    elif chunk.threat.gradient is not None:
        model = Defended(model, evaluation.purifier, gradient=chunk.threat.gradient)
    found = chunk.threat.attack(
        model,
        clean,
        torch.tensor(labels, device=clean.device),
        ids=ids,
        seed=derive(chunk.seed, "attack"),
        progress=(lambda done, of: progress(done / of)) if progress else None,
    )
    return _checked(found, clean, chunk.threat)


@dataclass(frozen=True)
class _Draw:
    """One run of the purifier on N images; `broken` says which came out with NaN or infinity."""

    seed: int
    images: Tensor
    broken: list[bool]
    refits: list[int]
    engine: str | None


def _draws(
    purifier: Purifier,
    seeds: list[int],
    images: Tensor,
    ids: list[int],
    progress: Callable[[float], None] | None,
) -> list[_Draw]:
    draws = []
    for seed in seeds:
        draws.append(_purify(purifier, images, ids, seed))
        if progress:
            progress(len(draws) / len(seeds))
    return draws


def _purify(purifier: Purifier, images: Tensor, ids: list[int], seed: int) -> _Draw:
    refits, engine = [0] * len(ids), None
    if isinstance(purifier, Estimator):
        found = purifier.estimate(images, ids=ids, seed=seed)
        purified, refits, engine = found.value, found.attempts.tolist(), found.engine
    else:
        purified = purifier(images, ids=ids, seed=seed)
    broken = (~purified.isfinite()).flatten(1).any(dim=1).tolist()
    return _Draw(seed, purified, broken, refits, engine)


@torch.no_grad()
def _predict(model: nn.Module, images: Tensor, ids: list[int], seed: int) -> list[int]:
    """Classes, and -1 where the logits are not finite."""
    logits = views(model, images, ids, seed)[-1]
    return torch.where(logits.isfinite().all(dim=1), logits.argmax(dim=1), -1).tolist()


def _checked(found: Tensor, clean: Tensor, threat: Threat) -> tuple[Tensor, list[tuple[str, ...]]]:
    """An attack's images, made such that a purifier can take them, and what was wrong with them.

    Raises:
        InputError: where they are not even of the clean images' shape.
    """
    if found.shape != clean.shape:
        raise InputError(
            f"attack {threat.name} returned {tuple(found.shape)} for {tuple(clean.shape)}; mend it"
        )
    nan = ~found.isfinite()
    final = torch.where(nan, clean, found.to(clean))
    outside = (final < 0) | (final > 1)
    final = final.clamp(0, 1)
    # An ε of float32 images is kept to rounding: a few units in the last place of a pixel.
    norm, eps = threat.attack.norm, threat.attack.eps
    far = torch.tensor(_distance(final, clean, norm)) > eps * (1 + 1e-5) + 1e-6
    faults = {
        "nan": nan.flatten(1).any(dim=1),
        "range": outside.flatten(1).any(dim=1),
        "eps": far,
    }
    return final, [
        tuple(name for name, which in faults.items() if which[i]) for i in range(len(clean))
    ]


def _distance(a: Tensor, b: Tensor, norm: str) -> list[float]:
    order = {"Linf": torch.inf, "L2": 2}[norm]
    return torch.linalg.vector_norm((a - b).flatten(1).double(), order, dim=1).tolist()


def _mean_absolute(a: Tensor, b: Tensor) -> list[float]:
    """Per image; NaN of a broken purification counts as the largest difference, 1."""
    return (a - b).abs().nan_to_num(1.0, 1.0, 1.0).flatten(1).double().mean(dim=1).tolist()


def _within(
    progress: Progress | None, doing: str, before: int, rows: int, total: int
) -> Callable[[float], None] | None:
    """Progress of a chunk as progress of the run."""
    if progress is None:
        return None
    progress(doing, before, total)
    return lambda fraction: progress(doing, before + rows * fraction, total)
