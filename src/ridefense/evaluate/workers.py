"""Where work is computed, chunk by chunk: here, in processes of this machine, on a cluster.

A chunk is a pure function of what was declared, so whoever computes it finds the same numbers, and
what a dead worker had begun is simply computed again. Workers never write: outcomes go back to the
process that called `run`, which alone owns the records.
"""

import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

import torch
from safetensors.torch import load
from torch import Tensor

from ridefense import threads
from ridefense.describe import Plain, differences
from ridefense.errors import InputError, RideError
from ridefense.evaluate.records import packed

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)
R = TypeVar("R")

Outcome = tuple[R, dict[str, Tensor]]
"""A row, and the images that are kept with it by name."""

Found = Iterator[tuple[C, list[Outcome[R]]]]
"""Chunks with their outcomes."""

Progress = Callable[[C, float], None]
"""Called with a chunk and the fraction of it that is done."""


class Work(Protocol[C_contra, R]):
    """Something declared that is computed chunk by chunk, as an evaluation or certificates.

    It is pickled, and so are its chunks, on the way to other processes.
    """

    @property
    def device(self) -> str:
        """Where it is computed, "cpu" or "cuda"."""
        ...

    def declared(self) -> Plain:
        """Everything that decides the numbers, as JSON data."""
        ...

    def compute(
        self, chunk: C_contra, progress: Callable[[float], None] | None = None
    ) -> list[Outcome[R]]:
        """The rows of a chunk: a pure function. `progress` is told the fraction that is done."""
        ...


_START = 3.0  # seconds that a process takes to import PyTorch and load images and classifier

_PATIENCE = 3  # deaths a worker, without a result between them, before the run is given up


class Workers(Protocol):
    """Computes chunks of some work somewhere."""

    def map(
        self, work: Work[C, R], chunks: Sequence[C], progress: Progress[C] | None = None
    ) -> Found[C, R]:
        """Every chunk once with its outcomes, in the order in which they are finished."""
        ...


@dataclass(frozen=True)
class Here:
    """This process."""

    def map(
        self, work: Work[C, R], chunks: Sequence[C], progress: Progress[C] | None = None
    ) -> Found[C, R]:
        for chunk in chunks:
            within = partial(progress, chunk) if progress else None
            if within:
                within(0.0)
            yield chunk, work.compute(chunk, within)


@dataclass(frozen=True)
class Processes:
    """So many processes of this machine, which share its cores and its GPUs evenly."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"count is {self.count}; use at least 1 process")

    def map(
        self, work: Work[C, R], chunks: Sequence[C], progress: Progress[C] | None = None
    ) -> Found[C, R]:
        numbers, declared = itertools.count(), work.declared()
        share = max(1, threads.available() // self.count)

        def hire() -> _Process[C, R]:
            return _Process(Bench(work, declared, share), next(numbers))

        def ready(workers: list[_Process[C, R]]) -> list[_Process[C, R]]:
            found = wait([worker.connection for worker in workers])
            return [worker for worker in workers if worker.connection in found]

        return spread(hire, ready, self.count, chunks, progress)


@dataclass(frozen=True)
class Automatic:
    """This process, until the work has taken as long as others take to start; then `count` of them.

    Work that cannot be pickled stays in this process.
    """

    count: int

    def map(
        self, work: Work[C, R], chunks: Sequence[C], progress: Progress[C] | None = None
    ) -> Found[C, R]:
        began, left = time.monotonic(), deque(chunks)
        here = self.count == 1 or not _can_travel(work)
        while left and (here or len(left) == 1 or time.monotonic() - began < _START):
            yield from Here().map(work, [left.popleft()], progress)
        if left:
            yield from Processes(min(self.count, len(left))).map(work, list(left), progress)


def _can_travel(work: object) -> bool:
    """Whether other processes can be given the work: it may hold a user's functions."""
    try:
        pickle.dumps(work)
    except Exception:  # whatever the parts raise
        return False
    return True


# --- What every kind of worker does --------------------------------------------------------------

Answer = list[tuple[R, bytes]] | Exception
"""Rows with their images as safetensors, or what was raised."""


class Died(Exception):
    """A worker ended without an answer."""


class Worker(Protocol[C_contra, R]):
    """Someone who prepares when created, and then computes one chunk after another."""

    def begin(self, chunk: C_contra) -> None:
        """Start to compute."""
        ...

    def answer(self) -> Answer[R]:
        """Of what was begun last, or, empty, of preparing; waits for it.

        Raises:
            Died: where there will be none.
        """

    def end(self) -> None:
        """Stop at once, whatever it is doing."""


@dataclass
class Bench(Generic[C, R]):
    """What a worker holds, on its own side.

    Attributes:
        work: as the driver has it.
        declared: what it declares there.
        threads: how many are its share.
    """

    work: Work[C, R]
    declared: Plain
    threads: int

    def prepare(self) -> Answer[R]:
        """Load images and classifier, and see that they are those of the driver."""
        return self._caught(self._check)

    def compute(self, chunk: C) -> Answer[R]:
        return self._caught(lambda: [(r, packed(kept)) for r, kept in self.work.compute(chunk)])

    def _check(self) -> Answer[R]:
        torch.set_num_threads(self.threads)
        for name, theirs, own in differences(self.declared, self.work.declared()):
            raise InputError(
                f"a worker has {name} {own!r}, not {theirs!r} as the driver; "
                "install the same versions and data everywhere"
            )
        return []

    def _caught(self, what: Callable[[], Answer[R]]) -> Answer[R]:
        try:
            return what()
        except Exception as error:
            if not isinstance(error, RideError):
                error.add_note(f"In a worker:\n{traceback.format_exc()}")
            return error


W = TypeVar("W", bound=Worker[Any, Any])


def spread(
    hire: Callable[[], W],
    ready: Callable[[list[W]], list[W]],
    count: int,
    chunks: Sequence[C],
    progress: Progress[C] | None,
) -> Found[C, R]:
    """Have up to `count` workers compute chunks; whoever dies is replaced.

    Args:
        hire: a new worker, who is preparing.
        ready: waits until some of these have answered or died, and returns them.

    Raises:
        RideError: where workers die again and again and nothing is finished between.
    """
    waiting, deaths = deque(chunks), 0
    busy: dict[int, tuple[W, C | None]] = {}  # None: it is preparing
    try:
        while waiting or any(chunk is not None for _, chunk in busy.values()):
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
                    waiting.extend([] if chunk is None else [chunk])
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
                    worker.begin(following)
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


class _Process(Generic[C, R]):
    """A process that was begun afresh, at the other end of a pipe."""

    def __init__(self, bench: Bench[C, R], number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, bench, number), daemon=True)
        self.process.start()
        theirs.close()

    def begin(self, chunk: C) -> None:
        with suppress(OSError):  # it is dead, as `answer` will find
            self.connection.send(chunk)

    def answer(self) -> Answer[R]:
        try:
            found: Answer[R] = self.connection.recv()
            return found
        except (EOFError, OSError) as error:
            self.process.join()
            raise Died(f"exit code {self.process.exitcode}") from error

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection, bench: Bench[C, R], number: int) -> None:
    """What the process does, until its pipe closes or its parent ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends this
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if torch.device(bench.work.device).type == "cuda":
        torch.cuda.set_device(number % torch.cuda.device_count())
    connection.send(bench.prepare())
    while True:
        try:
            chunk = connection.recv()
        except EOFError:
            return
        connection.send(bench.compute(chunk))


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
    os._exit(1)
