"""Findings that tests make by hand: images of ten classes, each with some draws right."""

from dataclasses import replace
from pathlib import Path

from ridefense.attacks import FGSM, PGD, SPSA, Transfer, UniformNoise
from ridefense.audit.findings import Findings
from ridefense.evaluate import CLEAN, RunFolder, Threat
from ridefense.gradients import FrozenWeights, Identity
from ridefense.results import DefenceResult
from test_records import row

DRAWS = 5


def one_step(eps):
    return Threat(attack=FGSM(eps=eps), gradient=Identity())


def bpda(eps, **changes):
    return Threat(attack=PGD(eps=eps, **changes), gradient=Identity())


def frozen(eps, **changes):
    return Threat(attack=PGD(eps=eps, **changes), gradient=FrozenWeights())


def queries(eps):
    return Threat(attack=SPSA(eps=eps), gradient=Identity())


def noise(eps):
    return Threat(attack=UniformNoise(eps=eps))


def gray(eps):
    return Threat(attack=PGD(eps=eps, steps=40))


def transfer(eps, source, **changes):
    return Threat(attack=Transfer(source=source, attack=PGD(eps=eps, **changes)))


def rows_of(attack, right):
    """Rows of images of classes 0, 1, …, 9, 0, …, of which `right[i]` draws are right."""
    found = []
    for image, count in enumerate(right):
        label, other = image % 10, (image + 1) % 10
        drawn = (label,) * count + (other,) * (DRAWS - count)
        found.append(replace(row(image, attack, predictions=drawn), label=label))
    return found


def attacked(threat, right):
    """The result of one attack."""
    return case("ride", {threat: right}).attack(threat.label)


def case(name, found, clean=None, purifier="RIDE", unfinished=()):
    """A run: `found` maps threats to how many draws of each image are right."""
    n = max(map(len, [clean or [], *found.values()]))
    settings = {
        "dataset": {
            "name": "mnist", "title": "MNIST", "split": "test", "images": n, "image_seed": 1,
            "classes": list("0123456789"),
        },
        "classifier": {"name": "cnn", "weights": "ff"},
        "preset": None,
        "purifier": {"type": purifier},
        "seeds": [0],
        "draws": DRAWS,
    }  # fmt: skip
    rows = rows_of(CLEAN, clean or [DRAWS] * n)
    for threat, right in found.items():
        rows += rows_of(threat.label, right)
    attacks = {threat.label: threat.settings() for threat in found}
    planned = {threat.label: threat.settings() for threat in unfinished}
    return DefenceResult(
        name, RunFolder(Path(name), settings, attacks, {"torch": "2"}, tuple(rows)), planned
    )


def findings(subject, bare=None, broken=None, hardened=(), beside=(), radii=(0.1,)):
    n = len(subject.clean.rows)
    bare = bare or case("none", {gray(0.1): [0] * n}, purifier="Unchanged")
    balls = tuple(("Linf", eps) for eps in radii)
    return Findings(subject, bare, broken, tuple(hardened), tuple(beside), balls)
