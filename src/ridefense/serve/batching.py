"""Images of many requests, computed in batches by one thread."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from torch import Tensor

from ridefense.serve.limits import Limits
from ridefense.serve.model import Answer


class Compute(Protocol):
    """Answers for images; called by one thread at a time."""

    def __call__(
        self, images: Sequence[Tensor], ids: Sequence[str], abandoned: Callable[[], bool]
    ) -> list[Answer]: ...


class Watch(Protocol):
    """What is told of every batch."""

    def batch(self, images: int, seconds: float) -> None:
        """A batch of so many images was computed."""

    def waiting(self, images: int) -> None:
        """So many images wait for a batch."""


@dataclass(eq=False)
class _Job:
    image: Tensor
    id: str
    answer: "asyncio.Future[Answer]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Batcher:
    """A queue of images, and a task that computes them in batches.

    A batch begins as soon as `limits.batch` images wait, or `limits.fill` seconds after the first
    of fewer. Images whose requests have ended are left out. Where a batch fails, each of its images
    is computed alone, so that an image that makes the model fail fails alone.

    Args:
        compute: answers for the images of a batch.
        limits: how many images make a batch, and how long one waits.
        watch: is told of batches.
    """

    def __init__(self, compute: Compute, limits: Limits, watch: Watch) -> None:
        self._compute, self._limits, self._watch = compute, limits, watch
        self._jobs: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._task: asyncio.Task[None] | None = None
        self._seconds = 0.1  # of computing an image, a moving average

    def start(self) -> None:
        """Begin to compute; needs a running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def running(self) -> bool:
        """Whether images that are submitted will be computed."""
        return self._task is not None and not self._task.done()

    async def stop(self) -> None:
        """End the task and the thread; every answer that is still awaited is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for job in self._jobs:
            job.answer.cancel()
        self._thread.shutdown(wait=False)

    async def submit(self, image: Tensor, id: str) -> Answer:
        """The answer for an image [C, H, W]; cancelled, the image is left out of later batches."""
        job = _Job(image, id)
        self._jobs.append(job)
        self._watch.waiting(len(self._jobs))
        self._arrived.set()
        return await job.answer

    def seconds_until_free(self, requests: int) -> int:
        """About how long so many requests take, whole seconds of at least 1."""
        return max(1, math.ceil(requests * self._seconds))

    async def _run(self) -> None:
        while True:
            jobs = await self._next()
            began = monotonic()
            await self._answer(jobs)
            seconds = monotonic() - began
            self._seconds += 0.2 * (seconds / len(jobs) - self._seconds)
            self._watch.batch(len(jobs), seconds)

    async def _next(self) -> list[_Job]:
        """The jobs of the next batch; at least one."""
        while True:
            await self._arrived.wait()
            end = monotonic() + self._limits.fill
            while len(self._jobs) < self._limits.batch and (left := end - monotonic()) > 0:
                self._arrived.clear()
                try:
                    await asyncio.wait_for(self._arrived.wait(), left)
                except TimeoutError:
                    break
            jobs: list[_Job] = []
            while self._jobs and len(jobs) < self._limits.batch:
                job = self._jobs.popleft()
                if not job.answer.done():
                    jobs.append(job)
            if self._jobs:
                self._arrived.set()
            else:
                self._arrived.clear()
            self._watch.waiting(len(self._jobs))
            if jobs:
                return jobs

    async def _answer(self, jobs: Sequence[_Job]) -> None:
        try:
            answers = await asyncio.get_running_loop().run_in_executor(
                self._thread,
                self._compute,
                [job.image for job in jobs],
                [job.id for job in jobs],
                lambda: all(job.answer.done() for job in jobs),
            )
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    await self._answer([job])
            elif not jobs[0].answer.done():
                jobs[0].answer.set_exception(error)
            return
        for job, answer in zip(jobs, answers, strict=True):
            if not job.answer.done():
                job.answer.set_result(answer)
