"""An evaluation, started or resumed: chunks to the workers, their rows into the folder."""

import os
from collections.abc import Callable
from dataclasses import replace

from ridefense.evaluate.evaluation import Evaluation
from ridefense.evaluate.protocol import Chunk, EvaluationWork, chunks_of
from ridefense.evaluate.provenance import provenance
from ridefense.evaluate.records import RUNS, RunFolder
from ridefense.evaluate.rows import CLEAN, Key
from ridefense.evaluate.sharing import GrayBoxImages
from ridefense.evaluate.workers import Here, Workers
from ridefense.files import check_name

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
        names = {CLEAN: CLEAN} | {
            name: records.label(threat) for name, threat in declared["attacks"].items()
        }

        def keys(chunk: Chunk) -> list[Key]:
            ids = images.ids[chunk.start : chunk.start + evaluation.batch].tolist()
            return [(names[chunk.attack], chunk.seed, i) for i in ids]

        chunks = chunks_of(evaluation, len(images))
        todo = [c for c in chunks if not all(key in records for key in keys(c))]
        total = sum(len(keys(chunk)) for chunk in chunks)
        done = total - sum(len(keys(chunk)) for chunk in todo)

        def move(chunk: Chunk, fraction: float) -> None:
            threat = evaluation.attacks.get(chunk.attack)
            doing = "clean images" if threat is None else threat.name
            if progress:
                progress(doing, done + fraction * len(keys(chunk)), total)

        work = EvaluationWork(evaluation, shared)
        for _, outcomes in workers.map(work, todo, move if progress else None):
            for found, kept in outcomes:
                row = replace(found, attack=names[found.attack])
                if row.key not in records:
                    records.append(row, kept)
            done += len(outcomes)
        if progress:
            progress("done", total, total)
    return RUNS.read(folder)
