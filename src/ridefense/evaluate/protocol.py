"""How a defence is evaluated: chunk by chunk, each a pure function of the declaration."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ridefense import memory, threads
from ridefense.attacks import AttackOutcome
from ridefense.attacks.diagnostics import Diagnostics
from ridefense.datasets import Dataset
from ridefense.defended import Defended
from ridefense.describe import Plain
from ridefense.errors import InputError, RideError
from ridefense.estimate import Estimate
from ridefense.estimators import Estimator
from ridefense.evaluate.evaluation import Evaluation, Threat
from ridefense.evaluate.history import Watch
from ridefense.evaluate.rows import CLEAN, UNREADABLE, Row
from ridefense.evaluate.sharing import GrayBoxImages
from ridefense.filters import Unchanged
from ridefense.noise import derive
from ridefense.purifier import Purifier, purified_by

FAULTS = {
    "nan": "the attack's image had NaN or infinity; those pixels were taken from the clean image",
    "range": "the attack's image left [0, 1]; it was clamped",
    "eps": "the attack's image is further from the clean one than ε",
    "purifier": "the purified image had NaN or infinity in some draw",
    UNREADABLE: "the image could not be decoded; it is left out of n",
}
"""What a row may say was wrong with an image. All but the last kind are evaluated as well."""


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


Outcome = tuple[Row, dict[str, Tensor]]
"""A row and its images, or none: "final" and "purified" (in the first draw), each [C, H, W], and
where an evaluation asks for a history, what `Watch.histories` says."""


def chunks_of(evaluation: Evaluation, images: int) -> list[Chunk]:
    """All units of work; their bounds depend on the declaration alone."""
    return [
        Chunk(seed, start, attack)
        for seed in evaluation.seeds
        for start in range(0, images, evaluation.batch)
        for attack in (CLEAN, *evaluation.attacks)
    ]


@dataclass(frozen=True)
class EvaluationWork:
    """An evaluation as work for `workers`.

    Attributes:
        shared: images of gray-box attacks that other evaluations in this process found.
    """

    evaluation: Evaluation
    shared: GrayBoxImages | None = None

    @property
    def device(self) -> str:
        return self.evaluation.device

    def declared(self) -> Plain:
        return self.evaluation.declared()

    def compute(
        self, chunk: Chunk, progress: Callable[[float], None] | None = None
    ) -> list[Outcome]:
        return evaluate_chunk(self.evaluation, chunk, progress, self.shared)


def evaluate_chunk(
    evaluation: Evaluation,
    chunk: Chunk,
    progress: Callable[[float], None] | None = None,
    shared: GrayBoxImages | None = None,
) -> list[Outcome]:
    """Attack and classify a chunk's images: a pure function, for any process to compute.

    PyTorch computes it on one thread, so that the numbers are those of every machine. Where the
    device's memory does not hold the chunk it is computed in halves, which changes the numbers by
    what rounding does to them: of eager's fits, that may be seen.

    Args:
        progress: called with the fraction of the chunk that is done.
        shared: images of gray-box attacks that other evaluations in this process found.

    Raises:
        RideError: if the device's memory does not hold a single image.
    """
    data, _ = evaluation.loaded()
    good, bad = _decoded(data[chunk.start : chunk.start + evaluation.batch])
    with threads.single():
        outcomes = _fitting(evaluation, chunk, good, progress, shared) if len(good) else []
    return outcomes + [_unreadable(evaluation, chunk, bad[[n]]) for n in range(len(bad))]


def _decoded(data: Dataset) -> tuple[Dataset, Dataset]:
    """The images that can be decoded, and those that cannot."""
    try:
        data.bytes  # noqa: B018
    except InputError:
        can = torch.tensor([_readable(data[[n]]) for n in range(len(data))])
        if can.all():  # it is something else
            raise
        return data[can.nonzero().flatten()], data[(~can).nonzero().flatten()]
    return data, data[:0]


def _readable(image: Dataset) -> bool:
    try:
        return bool(len(image.bytes))
    except InputError:
        return False


def _unreadable(evaluation: Evaluation, chunk: Chunk, data: Dataset) -> Outcome:
    """The row of an image that could not be decoded; it keeps no images."""
    distances = ("linf", "l2", "purified_clean", "purified_final", "final_clean")
    draws = len(evaluation.draw_seeds(chunk.seed, evaluation.attacks.get(chunk.attack)))
    row = Row(
        image=int(data.ids),
        attack=chunk.attack,
        seed=chunk.seed,
        label=int(data.labels),
        predictions=(-1,) * draws,
        bare=-1,
        rounded=-1,
        **dict.fromkeys((*distances, "purify_seconds", "attack_seconds"), 0.0),
        faults=(UNREADABLE,),
        refits=0,
        engine=None,
    )
    return row, {}


def _fitting(
    evaluation: Evaluation,
    chunk: Chunk,
    data: Dataset,
    progress: Callable[[float], None] | None,
    shared: GrayBoxImages | None,
) -> list[Outcome]:
    """Outcomes of as many images at once as the device's memory holds."""
    try:
        return _outcomes(evaluation, chunk, data, progress, shared)
    except (RuntimeError, MemoryError, RideError) as error:
        if not memory.is_exhausted(error):
            raise
        if len(data) == 1:
            height, width = data.images.shape[-2:]
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise RideError(
                f"the memory of {evaluation.device} does not hold one image of {height}×{width} "
                f"pixels ({reason}); use smaller images, or a machine with more memory"
            ) from error
    # Only here has the failed attempt let go of its tensors.
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    half = len(data) // 2
    parts = data[:half], data[half:]
    return [o for part in parts for o in _fitting(evaluation, chunk, part, None, shared)]


def _outcomes(
    evaluation: Evaluation,
    chunk: Chunk,
    data: Dataset,
    progress: Callable[[float], None] | None,
    shared: GrayBoxImages | None,
) -> list[Outcome]:
    _, classifier = evaluation.loaded()
    ids, labels = data.ids.tolist(), data.labels.tolist()
    clean = data.images.to(evaluation.device)
    share = (lambda a, b: lambda f: progress(a + (b - a) * f)) if progress else (lambda *_: None)

    began = time.perf_counter()
    final, faults = clean, [()] * len(ids)
    searches: list[Diagnostics | None] = [None] * len(ids)
    threat = evaluation.attacks.get(chunk.attack)
    if threat is not None:
        final, faults, searches = _attack(
            evaluation, threat, chunk.seed, clean, labels, ids, share(0, 0.7), shared
        )
    attack_seconds = (time.perf_counter() - began) / len(ids)

    began = time.perf_counter()
    seeds = evaluation.draw_seeds(chunk.seed, threat)
    watch = Watch() if evaluation.every and isinstance(evaluation.purifier, Estimator) else None
    draws = _draws(evaluation, seeds, final, ids, watch, share(0.7 if threat else 0, 1))
    purify_seconds = (time.perf_counter() - began) / len(draws) / len(ids)

    purified, fits = draws[0].images, [draw.found for draw in draws if draw.found]
    broken = torch.tensor([draw.broken for draw in draws]).any(dim=0).tolist()
    model = evaluation.purifier.behind(classifier)
    bare = Unchanged().behind(classifier)
    predictions = [_predict(model, draw.images, ids, draw.seed) for draw in draws]
    rounded, levels = predictions[0], (final * 255).round() / 255
    if not evaluation.rounded:
        rounded = [None] * len(ids)
    elif not torch.equal(levels, final):
        again = _purify(evaluation.purifier, levels, ids, draws[0].seed)
        rounded = _predict(model, again.images, ids, draws[0].seed)
    measured = {
        "bare": _predict(bare, final, ids, draws[0].seed),
        "rounded": rounded,
        "linf": _distance(final, clean, "Linf"),
        "l2": _distance(final, clean, "L2"),
        "purified_clean": _mean_absolute(purified, clean),
        "purified_final": _mean_absolute(purified, final),
        "final_clean": _mean_absolute(final, clean),
    }
    histories = [(None, {})] * len(ids)
    if watch:
        histories = watch.histories(draws[0].found, classifier, clean, final, ids, labels)
    outcomes = []
    for i, image in enumerate(ids):
        history, kept = histories[i]
        row = Row(
            image=image,
            attack=chunk.attack,
            seed=chunk.seed,
            label=labels[i],
            predictions=tuple(prediction[i] for prediction in predictions),
            **{name: values[i] for name, values in measured.items()},
            faults=faults[i] + (("purifier",) if broken[i] else ()),
            refits=sum(int(found.attempts[i]) for found in fits),
            engine=fits[0].engine if fits else None,
            purify_seconds=purify_seconds,
            attack_seconds=attack_seconds,
            peak_megabytes=memory.peak_megabytes(evaluation.device),
            history=history,
            search=searches[i],
        )
        outcomes.append((row, {"final": final[i], "purified": purified[i], **kept}))
    return outcomes


def _attack(
    evaluation: Evaluation,
    threat: Threat,
    seed: int,
    clean: Tensor,
    labels: list[int],
    ids: list[int],
    progress: Callable[[float], None] | None,
    shared: GrayBoxImages | None,
) -> tuple[Tensor, list[tuple[str, ...]], list[Diagnostics | None]]:
    """The images that the attack found, fit to be purified; what was wrong with each, and how each
    was searched for."""
    _, model = evaluation.loaded()
    if threat.gradient is not None:
        model = evaluation.purifier.behind(model, threat.gradient)

    def attack() -> AttackOutcome:
        return threat.attack.run(
            model,
            clean,
            torch.tensor(labels, device=clean.device),
            ids=ids,
            seed=derive(seed, "attack"),
            progress=(lambda done, of: progress(done / of)) if progress else None,
        )

    if shared is not None and threat.gradient is None:
        found = shared.found(evaluation.gray_box_key(threat, seed, ids), attack)
    else:
        found = attack()
    return *_checked(found.images, clean, threat), list(found.diagnostics)


@dataclass(frozen=True)
class _Draw:
    """One run of the purifier on N images; `found` is what an estimator says of it."""

    seed: int
    images: Tensor
    found: Estimate | None

    @property
    def broken(self) -> list[bool]:
        """Which images came out with NaN or infinity."""
        return (~self.images.isfinite()).flatten(1).any(dim=1).tolist()


def _draws(
    evaluation: Evaluation,
    seeds: list[int],
    images: Tensor,
    ids: list[int],
    watch: Watch | None,
    progress: Callable[[float], None] | None,
) -> list[_Draw]:
    """A run for each seed; the first is watched."""
    draws = []
    for seed in seeds:
        seen = {} if draws or watch is None else {"callback": watch, "every": evaluation.every}
        draws.append(_purify(evaluation.purifier, images, ids, seed, **seen))
        if progress:
            progress(len(draws) / len(seeds))
    return draws


def _purify(
    purifier: Purifier, images: Tensor, ids: list[int], seed: int, **watching: object
) -> _Draw:
    if isinstance(purifier, Estimator):
        found = purifier.estimate(images, ids=ids, seed=seed, **watching)
        return _Draw(seed, found.value, found)
    return _Draw(seed, purified_by(purifier, images, ids, seed), None)


@torch.no_grad()
def _predict(model: Defended, purified: Tensor, ids: list[int], seed: int) -> list[int]:
    """Classes of purified images, and -1 where the logits are not finite."""
    logits = model.classified(purified, ids, seed)
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
