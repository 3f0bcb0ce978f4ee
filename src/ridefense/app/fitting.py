"""A fit while it runs: what the classifier sees in the estimate, and how far that has moved."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic

import torch
from torch import Tensor

from ridefense.app.choices import Subject
from ridefense.app.comparing import View, seen
from ridefense.app.limits import Clock
from ridefense.estimate import Moment
from ridefense.estimators import ESTIMATORS

_MOMENTS = 48  # of a fit, at most
_PAUSE = 1.0  # seconds; moments that come faster than they are shown are told together


@dataclass(frozen=True)
class Step:
    """The estimate after some steps.

    Attributes:
        step: gradient steps done, over all rounds.
        round: from 1.
        view: x_est [C, H, W], and the classifier's probabilities of it.
        to_clean: mean absolute distance of x_est to the clean image.
        to_attacked: that to the image that is fitted.
    """

    step: int
    round: int
    view: View
    to_clean: float
    to_attacked: float


@dataclass(frozen=True)
class Fit:
    """A fit so far.

    Attributes:
        label: the true class.
        total: steps of the whole fit.
        steps: what was seen, in order; begun anew where the image is fitted again.
        refits: how often it was fitted again after a collapse.
        note: "" while it runs well; otherwise why it ended early, or that it collapsed.
    """

    label: int
    total: int
    steps: tuple[Step, ...]
    refits: int = 0
    note: str = ""


def watch(
    subject: Subject,
    clean: Tensor,
    attacked: Tensor,
    label: int,
    clock: Clock,
    estimator: str = "ride",
    preset: str = "fast",
) -> Iterator[Fit]:
    """Fit an image and tell what is seen on the way, as Figure 2 of the paper shows it.

    The fit runs in a thread. It ends with its round where the iterator is closed or the time is
    over.

    Args:
        subject: the classifier.
        clean: [C, H, W].
        attacked: the image that is fitted, [C, H, W].
        label: the true class.
        clock: how long it may take.
        estimator: of `ESTIMATORS`.
        preset: of its settings.
    """
    settings = ESTIMATORS[estimator].preset(preset).for_images(attacked[None])
    every = max(1, settings.total_steps // _MOMENTS)
    seen_so_far: queue.Queue[Moment | BaseException | bool] = queue.Queue()
    stopped = threading.Event()

    def tell(moment: Moment) -> bool:
        seen_so_far.put(moment)
        return stopped.is_set() or clock.left < 0

    def fit() -> None:
        try:
            found = settings.estimate(attacked[None], callback=tell, every=every)
            seen_so_far.put(bool(found.collapsed))
        except BaseException as error:
            seen_so_far.put(error)

    thread = threading.Thread(target=fit, name="fit", daemon=True)
    thread.start()
    fitted, shown = Fit(label, settings.total_steps, ()), monotonic()
    try:
        while isinstance(told := seen_so_far.get(), Moment):
            estimate = told.x_est[0]
            step = Step(
                told.step,
                told.round,
                seen(subject.classifier, estimate),
                _distance(estimate, clean),
                _distance(estimate, attacked),
            )
            if fitted.steps and step.step <= fitted.steps[-1].step:
                fitted = Fit(label, fitted.total, (), fitted.refits + 1)
            fitted = Fit(label, fitted.total, (*fitted.steps, step), fitted.refits)
            if seen_so_far.empty() or monotonic() > shown + _PAUSE:
                yield fitted
                shown = monotonic()
        if isinstance(told, BaseException):
            raise told
        note = "the estimate lost the image's contrast or colours" if told else ""
        if fitted.steps and fitted.steps[-1].step < fitted.total:
            note = f"not done within {clock.seconds:g} s"
        yield Fit(label, fitted.total, fitted.steps, fitted.refits, note)
    finally:
        stopped.set()
        thread.join()


def _distance(image: Tensor, other: Tensor) -> float:
    return float(torch.mean((image - other).abs()))
