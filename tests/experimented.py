"""Results of experiments that tests make by hand: images of class 3, each with a history."""

from pathlib import Path

from ridefense.attacks import PGD
from ridefense.evaluate import CLEAN, History, RunFolder, Threat
from ridefense.experiments import ExperimentResults
from ridefense.results import DefenceResult
from test_records import row

ATTACK = "pgd-1"
THREAT = Threat(attack=PGD(eps=0.1)).settings()


def history(predictions, steps=None, **changes):
    """A history with these predictions, whose other numbers do not matter unless given."""
    count = len(predictions)
    numbers = {name: (0.0,) * count for name in History.__annotations__ if "_" in name}
    return History(
        **numbers
        | {
            "steps": steps or tuple(range(10, 10 * count + 1, 10)),
            "predictions": tuple(predictions),
            "x_predictions": tuple(predictions),
            "scores": (0.5,) * count,
        }
        | changes
    )


def records(cases, planned=(ATTACK,), scale="laptop"):
    """Of cases whose rows are given by attack: {name: {attack: [row, …]}}."""
    settings = {
        "dataset": {"name": "mnist", "title": "MNIST", "classes": list("0123456789")},
        "purifier": {"type": "RIDE", "steps": 10, "rounds": 3},
        "seeds": [0],
        "device": "cpu",
    }
    runs = {
        name: RunFolder(
            Path(name),
            settings,
            {attack: THREAT for attack in rows if attack != CLEAN},
            {},
            tuple(found for attacked in rows.values() for found in attacked),
        )
        for name, rows in cases.items()
    }
    results = {name: DefenceResult(name, run) for name, run in runs.items()}
    return ExperimentResults(scale, results, {name: list(planned) for name in cases}, {})


def rows(attack, *histories, **changes):
    """A row for each history, of images 0, 1, …"""
    return [row(image, attack, history=past, **changes) for image, past in enumerate(histories)]
