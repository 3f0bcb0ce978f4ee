"""An evaluation, begun or gone on with: chunks to the workers, their rows into the folder."""

import os
from collections.abc import Callable

from ridefense.evaluate.evaluation import Evaluation
from ridefense.evaluate.protocol import Chunk, chunks_of
from ridefense.evaluate.records import Records, RunFolder, read
from ridefense.evaluate.rows import Key
from ridefense.evaluate.workers import Here, Workers

Progress = Callable[[str, float, int], None]
"""Called with what is being done, the rows done (a fraction within a chunk) and their total."""


def run(
    evaluation: Evaluation,
    folder: str | os.PathLike[str],
    progress: Progress | None = None,
    workers: Workers = Here(),  # noqa: B008 (it is frozen)
) -> RunFolder:
    """Evaluate, or go on where an earlier run of the same declaration stopped.

    A partly recorded chunk is computed again as a whole and its missing rows are written, so the
    numbers are those of an undisturbed run, bit for bit on the same processor and versions,
    whoever computes them.

    Args:
        workers: where chunks are computed; this process alone writes.

    Raises:
        InputError: for a declaration that cannot be carried out, or that is not the folder's.
        RideError: where the folder cannot be written to, or workers die again and again.
    """
    with Records.open(folder, evaluation.declared()) as records:
        images, _ = evaluation.load()

        def keys(chunk: Chunk) -> list[Key]:
            ids = images.ids[chunk.start : chunk.start + evaluation.batch].tolist()
            return [(chunk.attack, chunk.seed, i) for i in ids]

        chunks = chunks_of(evaluation, len(images))
        todo = [c for c in chunks if not all(key in records for key in keys(c))]
        total = sum(len(keys(chunk)) for chunk in chunks)
        done = total - sum(len(keys(chunk)) for chunk in todo)

        def move(chunk: Chunk, fraction: float) -> None:
            doing = "clean images" if chunk.threat is None else chunk.threat.name
            progress(doing, done + fraction * len(keys(chunk)), total)

        for _, outcomes in workers.map(evaluation, todo, move if progress else None):
            for row, kept in outcomes:
                if row.key not in records:
                    records.append(row, kept)
            done += len(outcomes)
        if progress:
            progress("done", total, total)
    return read(folder)
