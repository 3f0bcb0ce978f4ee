"""Declared work, started or resumed: chunks to the workers, their rows into the folder."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ridefense.evaluate.evaluation import Evaluation
from ridefense.evaluate.lines import CLEAN, Key, Line
from ridefense.evaluate.protocol import Chunk, EvaluationWork, chunks_of
from ridefense.evaluate.provenance import provenance
from ridefense.evaluate.records import RUNS, Records, RunFolder
from ridefense.evaluate.sharing import GrayBoxImages
from ridefense.evaluate.workers import Here, Work, Workers
from ridefense.files import check_name

C = TypeVar("C")
R = TypeVar("R", bound=Line)

Progress = Callable[[str, float, int], None]
"""Called with what is being done, the rows done (a fraction within a chunk) and their total."""


def run(
    evaluation: Evaluation,
    folder: str | os.PathLike[str],
    progress: Progress | None = None,
    workers: Workers = Here(),  # noqa: B008 (it is frozen)
    shared: GrayBoxImages | None = None,
) -> RunFolder:
    """Evaluate, or resume an earlier run of the same declaration.

    A partly recorded chunk is computed again as a whole and its missing rows are written, so the
    numbers are those of an uninterrupted run, bit for bit on the same processor and versions,
    whoever computes them.

    Args:
        workers: where chunks are computed; this process alone writes.
        shared: images of gray-box attacks, which all evaluations that are given it find only once.

    Raises:
        InputError: if the declaration cannot be carried out, or is not that of the folder.
        RideError: if the folder cannot be written to, or workers die again and again.
    """
    check_name(folder)
    declared = evaluation.declared()
    with RUNS.open(folder, declared, provenance(evaluation.device)) as records:
        images, _ = evaluation.loaded()
        # A folder may know an attack by another label.
        labels = {CLEAN: CLEAN} | {
            name: records.label(threat) for name, threat in declared["attacks"].items()
        }

        def keys(chunk: Chunk) -> list[Key]:
            ids = images.ids[chunk.start : chunk.start + evaluation.batch].tolist()
            return [(labels[chunk.attack], chunk.seed, i) for i in ids]

        def doing(chunk: Chunk) -> str:
            threat = evaluation.attacks.get(chunk.attack)
            return "clean images" if threat is None else threat.name

        chunks = {chunk: keys(chunk) for chunk in chunks_of(evaluation, len(images))}
        work = EvaluationWork(evaluation, shared, labels)
        complete(records, work, chunks, workers, doing, progress)
    return RUNS.read(folder)


def titled(progress: Progress | None, title: str) -> Progress | None:
    """Progress of one of several runs, told under a title."""
    if progress is None:
        return None
    return lambda doing, done, total: progress(f"{title}: {doing}", done, total)


def complete(
    records: Records[R],
    work: Work[C, R],
    chunks: Mapping[C, Sequence[Key]],
    workers: Workers,
    doing: Callable[[C], str],
    progress: Progress | None,
) -> None:
    """Compute the chunks that a folder lacks rows of, each as a whole, and write those rows.

    Args:
        chunks: all of them, with the keys of their rows.
        workers: where chunks are computed; this process alone writes.
        doing: what `progress` says that a chunk does.
    """
    todo = [c for c, keys in chunks.items() if not all(key in records for key in keys)]
    total = sum(map(len, chunks.values()))
    done = total - sum(len(chunks[c]) for c in todo)

    def move(chunk: C, fraction: float) -> None:
        if progress:
            progress(doing(chunk), done + fraction * len(chunks[chunk]), total)

    for _, outcomes in workers.map(work, todo, move if progress else None):
        for row, kept in outcomes:
            if row.key not in records:
                records.append(row, kept)
        done += len(outcomes)
    if progress:
        progress("done", total, total)
