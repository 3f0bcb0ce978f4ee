"""Small evaluations for tests, here or as a process.

`python evaluations.py FOLDER [2|ray|""] [ROWS]`: where ROWS is given, it kills itself with SIGKILL
in the middle of the chunk after so many rows.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from ridefense import MNIST, RIDE, Network
from ridefense.attacks import FGSM, PGD
from ridefense.classifiers import ARCHITECTURES, Classifier, Info, save
from ridefense.evaluate import Cluster, Evaluation, Here, Processes, Threat, Workers, run
from ridefense.gradients import Identity

GRAY = Threat(attack=FGSM(eps=0.2))
WHITE = Threat(attack=PGD(eps=0.1, steps=2, random_start=True), gradient=Identity())
TINY = replace(
    RIDE.preset("fast", network="mnist"),
    network=Network(channels=(1, 4, 1)),
    steps=2,
    rounds=2,
    samples=1,
    refits=0,
    engine="eager",
)
"""Randomised like RIDE, purifies badly, takes a millisecond an image."""


def weights(folder: Path) -> str:
    """The path of a classifier of digits with random weights, the same for each call."""
    path = folder / "random.safetensors"
    if not path.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = ARCHITECTURES["mnist-cnn"]
            network = made.build()
        info = Info(name="random", architecture="mnist-cnn", dataset="nothing")
        save(Classifier(MNIST, network, info), path)
    return str(path)


def declare(folder: Path, **changes: object) -> Evaluation:
    """An evaluation of 8 digits in chunks of 3, its classifier in `folder`."""
    settings = {
        "dataset": "digits",
        "classifier": weights(folder),
        "purifier": TINY,
        "threats": (GRAY, WHITE),
        "limit": 8,
        "draws": 3,
        "batch": 3,
    }
    return Evaluation(**(settings | changes))


def long(folder: Path) -> Evaluation:
    """Long enough to be killed in the middle."""
    return declare(folder, limit=40, batch=4)


def numbers(rows) -> list:
    """Rows without what no two runs share: how long they took, in how much memory."""
    cost = {"purify_seconds": 0.0, "attack_seconds": 0.0, "peak_megabytes": None}
    return [replace(row, **cost) for row in rows]


def here_or(name: str) -> Workers:
    """Workers by the name that the command line of this file takes."""
    if name == "ray":
        return Cluster("local", 1)
    return Processes(int(name)) if name else Here()


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, workers, rows = [*sys.argv[1:], "", ""][:3]

    def kill(doing: str, done: float, total: int) -> None:
        if rows and done > float(rows):
            os.kill(os.getpid(), signal.SIGKILL)

    run(long(Path(folder)), Path(folder, "run"), kill, here_or(workers))
