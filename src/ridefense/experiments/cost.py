"""How long cases will take: one short measurement of each purifier and classifier, multiplied."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ridefense import threads
from ridefense.attacks import FGSM
from ridefense.classifiers import Classifier
from ridefense.estimators import Estimator
from ridefense.evaluate import Evaluation, chunks_of, read
from ridefense.experiments.experiment import run_folder
from ridefense.purifier import Purifier

_ENOUGH = 0.2  # seconds that a measurement takes at least


def seconds(cases: Mapping[str, Evaluation], folder: Path) -> float:
    """An estimate of the time that one core needs for the rows that a folder lacks.

    It is rough. The time of a fit is taken as proportional to its steps, that of an attack to its
    runs of the purifier and its passes through the classifier.
    """
    total = 0.0
    purifying: dict[tuple[str, Purifier], float] = {}
    classifying: dict[tuple[str, str], float] = {}
    for name, evaluation in cases.items():
        images, classifier = evaluation.load()
        left = _left(evaluation, len(images), run_folder(folder, name))
        if not left:
            continue
        image = images[:1].images.to(evaluation.device)
        fitted = evaluation.dataset, evaluation.purifier
        graded = evaluation.dataset, evaluation.classifier
        with threads.single():
            if fitted not in purifying:
                purifying[fitted] = _of_purifier(evaluation.purifier, image)
            if graded not in classifying:
                classifying[graded] = _of_gradient(classifier, image)
        purify, classify = purifying[fitted], classifying[graded]
        for label, rows in left.items():
            threat = evaluation.attacks.get(label)
            draws = len(evaluation.draw_seeds(evaluation.seeds[0], threat))
            runs, passes = draws, draws
            if threat:
                cost = threat.attack.cost(evaluation.purifier, threat.gradient)
                runs += cost.purifications + evaluation.rounded
                passes += cost.forwards + cost.backwards
            total += rows * (runs * purify + passes * classify)
    return total


def _left(evaluation: Evaluation, images: int, folder: Path) -> dict[str, int]:
    """How many rows each attack lacks."""
    left: dict[str, int] = {}
    for chunk in chunks_of(evaluation, images):
        size = min(evaluation.batch, images - chunk.start)
        left[chunk.attack] = left.get(chunk.attack, 0) + size
    if (folder / "run.json").exists():
        begun = read(folder)
        own = {begun.label(threat.recorded): name for name, threat in evaluation.attacks.items()}
        for row in begun.rows:
            attack = own.get(row.attack, row.attack)
            if attack in left:
                left[attack] -= 1
    return {attack: rows for attack, rows in left.items() if rows > 0}


def _of_gradient(classifier: Classifier, image: Tensor) -> float:
    """Seconds of one gradient of the classifier, which bounds those of one pass."""
    label = torch.zeros(1, dtype=torch.int64, device=image.device)
    return _timed(lambda: FGSM(eps=0.01)(classifier, image, label))


def _of_purifier(purifier: Purifier, image: Tensor) -> float:
    """Seconds of one purification."""
    if not isinstance(purifier, Estimator):
        return _timed(lambda: purifier(image))
    begun = _few(purifier, image, 1)
    for steps in (10, 40, 160, 640):
        longer = _few(purifier, image, 1 + steps)
        if longer > 3 * begun:  # else what a fit begins with, which is paid once, hides its steps
            break
    return begun + max(longer - begun, 0.0) / steps * purifier.total_steps


def _few(purifier: Estimator, image: Tensor, steps: int) -> float:
    once = replace(purifier, steps=steps, rounds=1, samples=1, refits=0)
    return _timed(lambda: once(image))


def _timed(work: Callable[[], object]) -> float:
    work()  # the first time builds what later ones find
    began, times = time.perf_counter(), 0
    while time.perf_counter() - began < _ENOUGH:
        work()
        times += 1
    return (time.perf_counter() - began) / times
