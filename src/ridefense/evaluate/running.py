"""Declared work, started or resumed: chunks to the workers, their rows into the folders."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from ridefense.evaluate.evaluation import Evaluation, Threat
from ridefense.evaluate.lines import CLEAN, Key, Line
from ridefense.evaluate.protocol import EvaluationWork, Part, Together, chunks_of
from ridefense.evaluate.provenance import provenance
from ridefense.evaluate.records import RUNS, Records, RunFolder
from ridefense.evaluate.rows import Row
from ridefense.evaluate.sharing import GrayBoxImages
from ridefense.evaluate.workers import Here, Outcome, Work, Workers
from ridefense.files import check_name

C = TypeVar("C")
R = TypeVar("R", bound=Line)

Progress = Callable[[str, float, int], None]
"""Called with what is being done, the rows done (a fraction within a chunk) and their total."""

Priority = Callable[[Evaluation, Threat | None], float]
"""When an attack is run (None: the clean images): the lowest number first."""


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
    told = progress and (lambda doing, *numbers: progress(doing.rpartition(": ")[2], *numbers))
    run_together({folder: evaluation}, told, workers, shared=shared)
    return RUNS.read(folder)


def run_together(
    evaluations: Mapping[str | os.PathLike[str], Evaluation],
    progress: Progress | None = None,
    workers: Workers = Here(),  # noqa: B008 (it is frozen)
    priority: Priority = lambda evaluation, threat: 0,
    shared: GrayBoxImages | None = None,
) -> None:
    """Evaluate several declarations, or resume them, as one piece of work.

    The workers start once, and are all busy until the last chunk. A gray-box attack is run once on
    the images of a chunk for all evaluations of the same classifier.

    Args:
        evaluations: by their folders; all on the same device.
        progress: is told the folder's name with the attack's, as "median-3: PGD".
        workers: as in `run`.
        priority: of the attacks; those of the same priority are run evaluation by evaluation.
        shared: as in `run`.

    Raises:
        InputError, RideError: as `run`.
    """
    if not evaluations:
        return
    with ExitStack() as stack:
        works: list[EvaluationWork] = []
        parts: dict[Part, list[tuple[Records[Row], Key]]] = {}
        for number, (folder, evaluation) in enumerate(evaluations.items()):
            check_name(folder)
            declared = evaluation.declared()
            made_by = provenance(evaluation.device)
            records = stack.enter_context(RUNS.open(folder, declared, made_by))
            # A folder may know an attack by another label.
            labels = {CLEAN: CLEAN} | {
                name: records.label(threat) for name, threat in declared["attacks"].items()
            }
            works.append(EvaluationWork(evaluation, labels))
            images, _ = evaluation.loaded()
            for chunk in chunks_of(evaluation, len(images)):
                ids = images.ids[chunk.start : chunk.start + evaluation.batch].tolist()
                keys = [(labels[chunk.attack], chunk.seed, i) for i in ids]
                parts[number, chunk] = [(records, key) for key in keys]
        names = [Path(folder).name for folder in evaluations]

        def doing(unit: Sequence[Part]) -> str:
            number, chunk = unit[0]
            threat = works[number].evaluation.attacks.get(chunk.attack)
            return f"{names[number]}: {'clean images' if threat is None else threat.name}"

        def rank(part: Part) -> float:
            number, chunk = part
            evaluation = works[number].evaluation
            return priority(evaluation, evaluation.attacks.get(chunk.attack))

        work = Together(tuple(works), shared)
        finished = {part for part, rows in parts.items() if all(key in r for r, key in rows)}
        left = sorted((part for part in parts if part not in finished), key=rank)
        units = [*((part,) for part in finished), *work.units(left)]
        rows = {unit: [row for part in unit for row in parts[part]] for unit in units}
        complete(work, rows, workers, doing, progress)


def titled(progress: Progress | None, title: str) -> Progress | None:
    """Progress of one of several runs, told under a title."""
    if progress is None:
        return None
    return lambda doing, done, total: progress(f"{title}: {doing}", done, total)


def complete(
    work: Work[C, R],
    chunks: Mapping[C, Sequence[tuple[Records[R], Key]]],
    workers: Workers,
    doing: Callable[[C], str],
    progress: Progress | None,
) -> None:
    """Compute the chunks that folders lack rows of, each as a whole, and write those rows.

    Args:
        chunks: all of them, with the folders and the keys of their rows; the rows of a folder in
            the order in which `work` returns the folders.
        workers: where chunks are computed; this process alone writes.
        doing: what `progress` says that a chunk does.
    """
    todo = [c for c, rows in chunks.items() if not all(key in records for records, key in rows)]
    total = sum(map(len, chunks.values()))
    done = total - sum(len(chunks[c]) for c in todo)

    def move(chunk: C, fraction: float) -> None:
        if progress:
            progress(doing(chunk), done + fraction * len(chunks[chunk]), total)

    for chunk, outcomes in workers.map(work, todo, move if progress else None):
        folders = [records for records, _ in chunks[chunk]]
        new: dict[int, list[Outcome[R]]] = {}
        for records, (row, kept) in zip(folders, outcomes, strict=True):
            if row.key not in records:
                new.setdefault(id(records), []).append((row, kept))
        for records in {id(r): r for r in folders}.values():
            records.extend(new.get(id(records), []))
        done += len(outcomes)
    if progress:
        progress("done", total, total)
