"""How a defence is evaluated: chunk by chunk, each a pure function of the declaration."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from ridefense import memory, threads
from ridefense.datasets import Dataset
from ridefense.describe import Plain
from ridefense.errors import InputError, RideError
from ridefense.evaluate import measuring
from ridefense.evaluate.evaluation import Evaluation
from ridefense.evaluate.lines import CLEAN, DEFENCE_FAILED, UNREADABLE
from ridefense.evaluate.measuring import FAULTS, Chunk, Outcome
from ridefense.evaluate.rows import Row
from ridefense.evaluate.sharing import GrayBoxImages

__all__ = [
    "FAULTS",
    "Chunk",
    "EvaluationWork",
    "Outcome",
    "Part",
    "Together",
    "chunks_of",
    "evaluate_chunk",
]


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
        labels: what rows call an attack, by its label in `Evaluation.attacks`, where they differ.
    """

    evaluation: Evaluation
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        return self.evaluation.device

    def declared(self) -> Plain:
        return self.evaluation.declared()

    def compute(
        self,
        chunk: Chunk,
        progress: Callable[[float], None] | None = None,
        shared: GrayBoxImages | None = None,
    ) -> list[Outcome]:
        found = evaluate_chunk(self.evaluation, chunk, progress, shared)
        label = self.labels.get(chunk.attack, chunk.attack)
        return [(replace(row, attack=label), kept) for row, kept in found]


Part = tuple[int, Chunk]
"""A chunk of one of several evaluations, which is told by its number."""


@dataclass(frozen=True)
class Together:
    """Several evaluations as one piece of work, whose chunks are `units` of theirs.

    Attributes:
        shared: images of gray-box attacks found before; by default each unit shares its own.
    """

    works: tuple[EvaluationWork, ...]
    shared: GrayBoxImages | None = None

    @property
    def device(self) -> str:
        return self.works[0].device

    def declared(self) -> Plain:
        return {str(number): work.declared() for number, work in enumerate(self.works)}

    def units(self, parts: Iterable[Part]) -> list[tuple[Part, ...]]:
        """What is computed at once: a chunk, or all chunks that need the images of one gray-box
        attack, at the place of their first."""
        units: dict[str | Part, list[Part]] = {}
        for part in parts:
            number, chunk = part
            evaluation = self.works[number].evaluation
            threat = evaluation.attacks.get(chunk.attack)
            key: str | Part = part
            if threat is not None and threat.gradient is None:
                images, _ = evaluation.loaded()
                ids = images.ids[chunk.start : chunk.start + evaluation.batch].tolist()
                key = evaluation.gray_box_key(threat, chunk.seed, ids)
            units.setdefault(key, []).append(part)
        return [tuple(unit) for unit in units.values()]

    def compute(
        self, unit: Sequence[Part], progress: Callable[[float], None] | None = None
    ) -> list[Outcome]:
        """The rows of each part in turn."""
        shared = GrayBoxImages() if self.shared is None else self.shared
        found: list[Outcome] = []
        for place, (number, chunk) in enumerate(unit):
            move = measuring.part(progress, place / len(unit), (place + 1) / len(unit))
            found += self.works[number].compute(chunk, move, shared)
        return found


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
        outcomes = _answered(evaluation, chunk, good, progress, shared) if len(good) else []
    return outcomes + [_empty(evaluation, chunk, bad[[n]], UNREADABLE) for n in range(len(bad))]


def _decoded(data: Dataset) -> tuple[Dataset, Dataset]:
    """The images that can be decoded, and those that cannot."""
    try:
        data.bytes  # noqa: B018
    except InputError:
        can = torch.tensor([is_readable(data[[n]]) for n in range(len(data))])
        if can.all():  # it is something else
            raise
        return data[can.nonzero().flatten()], data[(~can).nonzero().flatten()]
    return data, data[:0]


def is_readable(image: Dataset) -> bool:
    """Whether a single image can be decoded."""
    try:
        return bool(len(image.bytes))
    except InputError:
        return False


def _empty(
    evaluation: Evaluation, chunk: Chunk, data: Dataset, fault: str, error: str | None = None
) -> Outcome:
    """The row of an image about which only a fault can be said; it keeps no images."""
    draws = len(evaluation.draw_seeds(chunk.seed, evaluation.attacks.get(chunk.attack)))
    row = Row(
        image=int(data.ids),
        attack=chunk.attack,
        seed=chunk.seed,
        label=int(data.labels),
        predictions=(-1,) * draws,
        bare=-1,
        rounded=-1,
        linf=0.0,
        l2=0.0,
        purified_clean=0.0,
        purified_final=0.0,
        final_clean=0.0,
        purify_seconds=0.0,
        attack_seconds=0.0,
        faults=(fault,),
        refits=0,
        engine=None,
        error=error,
    )
    return row, {}


def _answered(
    evaluation: Evaluation,
    chunk: Chunk,
    data: Dataset,
    progress: Callable[[float], None] | None,
    shared: GrayBoxImages | None,
) -> list[Outcome]:
    """Outcomes of images; where the defence ends in an error and that is tolerated, each alone."""
    try:
        return _fitting(evaluation, chunk, data, progress, shared)
    except Exception as error:
        if not evaluation.tolerant or memory.is_exhausted(error):
            raise
        if len(data) == 1:
            return [_empty(evaluation, chunk, data, DEFENCE_FAILED, measuring.one_line(error))]
    parts = [data[[n]] for n in range(len(data))]
    return [o for part in parts for o in _answered(evaluation, chunk, part, None, shared)]


def _fitting(
    evaluation: Evaluation,
    chunk: Chunk,
    data: Dataset,
    progress: Callable[[float], None] | None,
    shared: GrayBoxImages | None,
) -> list[Outcome]:
    """Outcomes of as many images at once as the device's memory holds."""
    try:
        return measuring.outcomes(evaluation, chunk, data, progress, shared)
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
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # PyTorch does not annotate it
        torch.cuda.empty_cache()
    half = len(data) // 2
    parts = data[:half], data[half:]
    return [o for part in parts for o in _fitting(evaluation, chunk, part, None, shared)]
