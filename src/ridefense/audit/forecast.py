"""How long an audit will take, from what a few images take and what its attacks declare."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ridefense import classifiers
from ridefense.evaluate import Cluster, Evaluation, Processes, Threat, Workers
from ridefense.evaluate.workers import Found, Progress, Work
from ridefense.settings import Settings

_FEW = 4
"""Images that are measured; of an estimator, whose fits take seconds, one."""


@dataclass(frozen=True)
class Pace:
    """Seconds that one image takes.

    Attributes:
        purification: of a run of the defence that is no part of a pass.
        forward: of a forward pass.
        backward: of a backward pass beside its forward pass.
    """

    purification: float
    forward: float
    backward: float

    @classmethod
    def measured(cls, evaluation: Evaluation) -> "Pace":
        """On a few images of an evaluation, each part run once.

        Raises:
            InputError: as `Evaluation.load`, and for a defence that cannot be called.
        """
        images, classifier = evaluation.loaded()
        count = 1 if isinstance(evaluation.purifier, Settings) else _FEW
        shown = classifiers.readable(images, count).to(evaluation.device)
        defence = evaluation.purifier
        model = defence.behind(classifier) if defence.position != "before" else classifier
        purification = 0.0
        if defence.position == "before":
            purification = _seconds(lambda: defence(shown, seed=0))
        with torch.no_grad():
            forward = _seconds(lambda: model(shown))

        def both() -> None:
            x = shown.clone().requires_grad_()
            logits = model(x)
            if logits.requires_grad:
                torch.autograd.grad(logits.sum(), x, allow_unused=True)

        with torch.enable_grad():
            backward = max(0.0, _seconds(both) - forward)
        n = len(shown)
        return cls(purification / n, forward / n, backward / n)

    def of(self, evaluation: Evaluation, threat: Threat | None) -> float:
        """About how long an attack, or the clean images, take for all images of an evaluation."""
        images, _ = evaluation.loaded()
        seeds = len(evaluation.seeds)
        draws = len(evaluation.draw_seeds(0, threat)) + evaluation.rounded
        each = draws * (self.purification + self.forward)
        if threat is not None:
            cost = threat.attack.cost(evaluation.purifier, threat.gradient)
            each += cost.purifications * self.purification
            each += cost.forwards * self.forward + cost.backwards * self.backward
        return each * len(images) * seeds


@dataclass(frozen=True)
class Forecast:
    """What is to be run, cheapest first, with about how long each takes.

    Attributes:
        items: name of the evaluation, its attack (None for its clean images), seconds of one
            process.
        processes: that share the work.
    """

    items: tuple[tuple[str, Threat | None, float], ...]
    processes: int = 1

    @classmethod
    def of(cls, evaluations: Mapping[str, Evaluation], workers: Workers) -> "Forecast":
        """Of evaluations by name; each is measured on a few images."""
        items: list[tuple[str, Threat | None, float]] = []
        for name, evaluation in evaluations.items():
            pace = Pace.measured(evaluation)
            items += [(name, t, pace.of(evaluation, t)) for t in (None, *evaluation.threats)]
        # Clean images first: without them nothing else counts.
        items.sort(key=lambda item: (item[1] is not None, item[2]))
        count = workers.count if isinstance(workers, Processes | Cluster) else 1
        return cls(tuple(items), count or 1)

    @property
    def seconds(self) -> float:
        """Of all of it."""
        return sum(seconds for _, _, seconds in self.items) / self.processes

    def __str__(self) -> str:
        attacks = sum(threat is not None for _, threat, _ in self.items)
        defences = len({name for name, _, _ in self.items})
        return f"{attacks} attacks on {defences} defences: {duration(self.seconds)}"

    def fitting(
        self, evaluations: Mapping[str, Evaluation], seconds: float
    ) -> dict[str, Evaluation]:
        """The evaluations with the attacks that fit into a time, cheapest first.

        Clean images are always among them.
        """
        spent, chosen = 0.0, {name: set[str]() for name in evaluations}
        for name, threat, own in self.items:
            spent += own / self.processes
            if threat is not None and spent <= seconds:
                chosen[name].add(threat.key)
        return {
            name: replace(e, threats=tuple(t for t in e.threats if t.key in chosen[name]))
            for name, e in evaluations.items()
        }


@dataclass(frozen=True)
class Until:
    """Workers that stop at a deadline. Finished chunks are kept; a chunk that was begun is lost.

    Attributes:
        workers: that compute the chunks.
        deadline: in seconds, on the clock of `time.monotonic`.
    """

    workers: Workers
    deadline: float

    def map(
        self, work: Work[Any, Any], chunks: Any, progress: Progress[Any] | None = None
    ) -> Found[Any, Any]:
        if time.monotonic() >= self.deadline:
            return
        for found in self.workers.map(work, chunks, progress):
            yield found
            if time.monotonic() >= self.deadline:
                return


def duration(seconds: float) -> str:
    """As "about 40 s", "about 3 min", "about 2.5 h"."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"about {seconds / size:.2g} {unit}"
    return f"about {max(1, round(seconds))} s"


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
