"""Runs made by hand, of which reports are tested, and their renderings."""

from ridefense.evaluate import RUNS
from ridefense.pages import as_html, as_markdown
from ridefense.report import overview, summary
from test_records import images, row

RIDE = {"type": "RIDE", "steps": 100, "rounds": 5, "learning_rate": 0.001, "sigma": [0.154]}
BPDA = {
    "name": "BPDA",
    "knows": "classifier, purifier",
    "asks": "gradients",
    "norm": "Linf",
    "eps": 0.1,
    "attack": {"type": "PGD"},
}
GRAY = {**BPDA, "name": "PGD", "knows": "classifier"}


def settings(purifier=RIDE, **dataset):
    data = {"name": "digits", "title": "digits", "split": "test", "images": 4}
    return {
        "dataset": {**data, "classes": list("0123456789"), **dataset},
        "classifier": {"name": "cnn", "weights": "ff"},
        "preset": "fast" if purifier is RIDE else None,
        "purifier": purifier,
        "seeds": [0],
        "draws": 2,
    }


def record(folder, predictions, attacks, purifier=RIDE, **dataset):
    """A run of images of class 3: predictions by attack, then by image."""
    attacks = {
        label: attack | {"attack": {"eps": attack["eps"], **attack["attack"]}}
        for label, attack in attacks.items()
    }
    declared = {"settings": settings(purifier, **dataset), "versions": {}, "attacks": attacks}
    with RUNS.open(folder, declared) as records:
        for attack, by_image in predictions.items():
            for image, drawn in enumerate(by_image):
                records.append(row(image, attack, predictions=drawn), images(image))
    return folder


GOOD, BAD, MIXED = (3, 3), (1, 1), (3, 1)


def two_runs(folder):
    """The same attack on RIDE and on the bare classifier, each in a folder of its own."""
    attacked = {"none": [GOOD, GOOD, GOOD, BAD], "bpda": [GOOD, MIXED, BAD, BAD]}
    record(folder / "ride", attacked, {"bpda": BPDA})
    bare = {"none": [GOOD[:1]] * 4, "bpda": [BAD[:1]] * 4}
    record(folder / "bare", bare, {"bpda": BPDA}, {"type": "Unchanged"})
    return folder


def markdown(results):
    return as_markdown(summary(results))


def html(results):
    return as_html(overview(results))
