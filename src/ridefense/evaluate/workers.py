"""Where chunks are computed: here, in processes of this machine, on a cluster.

A chunk is a pure function of the declaration, so whoever computes it finds the same numbers, and
what a dead worker had begun is simply computed again. Workers never write: outcomes go back to the
process that called `run`, which alone owns the records.
"""

import itertools
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Protocol, TypeVar

import torch
from safetensors.torch import load

from ridefense import threads
from ridefense.describe import Plain, differences
from ridefense.errors import InputError, RideError
from ridefense.evaluate import protocol
from ridefense.evaluate.evaluation import Evaluation
from ridefense.evaluate.protocol import Chunk, Outcome
from ridefense.evaluate.records import packed
from ridefense.evaluate.rows import Row
from ridefense.evaluate.sharing import GrayBoxImages

Progress = Callable[[Chunk, float], None]
"""Called with a chunk and the fraction of it that is done."""

Found = Iterator[tuple[Chunk, list[Outcome]]]

_PATIENCE = 3  # deaths a worker, without a result between them, before the run is given up


class Workers(Protocol):
    """Computes chunks of an evaluation somewhere."""

    def map(
        self, evaluation: Evaluation, chunks: Sequence[Chunk], progress: Progress | None = None
    ) -> Found:
        """Every chunk once with its outcomes, in the order in which they are finished."""
        ...


@dataclass(frozen=True)
class Here:
    """This process.

    Attributes:
        shared: images of gray-box attacks, which all evaluations that are given these workers find
            only once; None to find them anew. Other processes always find their own.
    """

    shared: GrayBoxImages | None = field(default=None, compare=False)

    def map(
        self, evaluation: Evaluation, chunks: Sequence[Chunk], progress: Progress | None = None
    ) -> Found:
        for chunk in chunks:
            within = partial(progress, chunk) if progress else None
            if within:
                within(0.0)
            yield chunk, protocol.evaluate_chunk(evaluation, chunk, within, self.shared)


@dataclass(frozen=True)
class Processes:
    """So many processes of this machine, which share its cores and its GPUs evenly."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"count is {self.count}; use at least 1 process")

    def map(
        self, evaluation: Evaluation, chunks: Sequence[Chunk], progress: Progress | None = None
    ) -> Found:
        numbers, declared = itertools.count(), evaluation.declared()
        share = max(1, threads.available() // self.count)

        def hire() -> _Process:
            return _Process(Bench(evaluation, declared, share), next(numbers))

        return spread(hire, _Process.ready, self.count, chunks, progress)


# --- What every kind of worker does --------------------------------------------------------------

Task = tuple[int, int, str]
"""A chunk as it is sent: its seed, its start and its attack's label."""

Answer = list[tuple[Row, bytes]] | Exception
"""Rows with their images as safetensors, or what was raised."""


class Died(Exception):
    """A worker ended without an answer."""


class Worker(Protocol):
    """Someone who prepares when created, and then computes one chunk after another."""

    def begin(self, task: Task) -> None:
        """Start to compute."""

    def answer(self) -> Answer:
        """Of what was begun last, or, empty, of preparing; waits for it.

        Raises:
            Died: where there will be none.
        """

    def end(self) -> None:
        """Stop at once, whatever it is doing."""


W = TypeVar("W", bound=Worker)


@dataclass
class Bench:
    """What a worker holds, on its own side.

    Attributes:
        evaluation: as the driver has it.
        declared: what it declares there.
        threads: how many are its share.
    """

    evaluation: Evaluation
    declared: Plain
    threads: int

    def prepare(self) -> Answer:
        """Load images and classifier, and see that they are those of the driver."""
        return self._caught(self._check)

    def compute(self, task: Task) -> Answer:
        return self._caught(lambda: self._outcomes(task))

    def _check(self) -> Answer:
        torch.set_num_threads(self.threads)
        for name, theirs, own in differences(self.declared, self.evaluation.declared()):
            raise InputError(
                f"a worker has {name} {own!r}, not {theirs!r} as the driver; "
                "install the same versions and data everywhere"
            )
        return []

    def _outcomes(self, task: Task) -> Answer:
        seed, start, attack = task
        chunk = Chunk(seed, start, self.evaluation.attacks.get(attack))
        found = protocol.evaluate_chunk(self.evaluation, chunk)
        return [(row, packed(kept)) for row, kept in found]

    def _caught(self, what: Callable[[], Answer]) -> Answer:
        try:
            return what()
        except Exception as error:
            if not isinstance(error, RideError):
                error.add_note(f"In a worker:\n{traceback.format_exc()}")
            return error


def spread(
    hire: Callable[[], W],
    ready: Callable[[list[W]], list[W]],
    count: int,
    chunks: Sequence[Chunk],
    progress: Progress | None,
) -> Found:
    """Have up to `count` workers compute chunks; whoever dies is replaced.

    Args:
        hire: a new worker, who is preparing.
        ready: waits until some of these have answered or died, and returns them.

    Raises:
        RideError: where workers die again and again and nothing is finished between.
    """
    waiting, deaths = deque(chunks), 0
    busy: dict[int, tuple[W, Chunk | None]] = {}  # None: it is preparing
    try:
        while waiting or any(chunk for _, chunk in busy.values()):
            wanted = len(waiting) + sum(chunk is not None for _, chunk in busy.values())
            while len(busy) < min(count, wanted):
                worker = hire()
                busy[id(worker)] = worker, None
            for worker in ready([worker for worker, _ in busy.values()]):
                _, chunk = busy.pop(id(worker))
                try:
                    answer = worker.answer()
                except Died as error:
                    worker.end()
                    waiting.extend([chunk] if chunk else [])
                    deaths += 1
                    if deaths >= _PATIENCE * count:
                        raise RideError(
                            f"{deaths} workers in a row died ({error}); use fewer if memory is "
                            "short, start them below if __name__ == '__main__' in a script, and "
                            "start the same command again"
                        ) from error
                    continue
                if isinstance(answer, Exception):
                    worker.end()
                    raise answer
                if waiting:
                    following = waiting.popleft()
                    busy[id(worker)] = worker, following
                    worker.begin((following.seed, following.start, following.attack))
                    if progress:
                        progress(following, 0.0)
                else:
                    worker.end()
                if chunk is not None:
                    deaths = 0
                    yield chunk, [(row, load(kept)) for row, kept in answer]
    finally:
        for worker, _ in busy.values():
            worker.end()


# --- Processes of this machine -------------------------------------------------------------------


class _Process:
    """A process that was begun afresh, at the other end of a pipe."""

    def __init__(self, bench: Bench, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, bench, number), daemon=True)
        self.process.start()
        theirs.close()

    def begin(self, task: Task) -> None:
        with suppress(OSError):  # it is dead, as `answer` will find
            self.connection.send(task)

    def answer(self) -> Answer:
        try:
            return self.connection.recv()
        except (EOFError, OSError) as error:
            self.process.join()
            raise Died(f"exit code {self.process.exitcode}") from error

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()

    @staticmethod
    def ready(workers: "list[_Process]") -> "list[_Process]":
        found = wait([worker.connection for worker in workers])
        return [worker for worker in workers if worker.connection in found]


def _serve(connection: Connection, bench: Bench, number: int) -> None:
    """What the process does, until its pipe closes or its parent ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends this
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if torch.device(bench.evaluation.device).type == "cuda":
        torch.cuda.set_device(number % torch.cuda.device_count())
    connection.send(bench.prepare())
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(bench.compute(task))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
