"""Chunks computed by the actors of a Ray cluster."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

from ridefense.errors import InputError
from ridefense.evaluate.workers import Answer, Bench, C, Died, Found, Progress, R, Work, spread
from ridefense.extras import package


@dataclass(frozen=True)
class Cluster:
    """Actors of a Ray cluster, each with a core of its own and, on "cuda", a GPU or a share of one.

    Attributes:
        address: as `ray.init` takes it; "auto" is the cluster that this machine belongs to.
        count: how many actors; None for one to each core or, on "cuda", each GPU. More than GPUs
            share them evenly.
    """

    address: str = "auto"
    count: int | None = None

    def map(
        self, work: Work[C, R], chunks: Sequence[C], progress: Progress[C] | None = None
    ) -> Found[C, R]:
        ray = _connected(self.address)
        needs = {"num_cpus": 1.0}
        unit = "GPU" if work.device.startswith("cuda") else "CPU"
        there = int(ray.cluster_resources().get(unit, 0))
        if not there:
            raise InputError(f"the Ray cluster has no {unit}; add one or choose another device")
        count = self.count or there
        if unit == "GPU":
            needs["num_gpus"] = 1 / math.ceil(count / there)
        declared = work.declared()
        actor = ray.remote(Bench).options(**needs, max_restarts=0)

        def hire() -> _Actor[C, R]:
            return _Actor(ray, actor.remote(work, declared, 1))

        def ready(workers: list[_Actor[C, R]]) -> list[_Actor[C, R]]:
            found, _ = ray.wait([worker.pending for worker in workers])
            return [worker for worker in workers if worker.pending in found]

        return spread(hire, ready, count, chunks, progress)


class _Actor(Generic[C, R]):
    """A `Bench` in another process, maybe on another machine."""

    def __init__(self, ray: Any, handle: Any) -> None:
        self.ray, self.handle = ray, handle
        self.pending = handle.prepare.remote()

    def begin(self, chunk: C) -> None:
        self.pending = self.handle.compute.remote(chunk)

    def answer(self) -> Answer[R]:
        try:
            found: Answer[R] = self.ray.get(self.pending)
            return found
        except self.ray.exceptions.RayError as error:  # what it raised itself is an answer
            raise Died(str(error).splitlines()[0]) from error

    def end(self) -> None:
        self.ray.kill(self.handle)


def _connected(address: str) -> Any:
    """Ray, connected; a program that has connected already keeps its connection.

    Raises:
        InputError: where Ray is not installed, or no cluster is at this address.
    """
    ray = package("ray", "ray")
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"no Ray cluster at {address} ({reason}); start one by ray start --head, "
                "or work without a cluster"
            ) from error
    return ray
