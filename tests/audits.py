"""Findings that tests make by hand: images of class 3, each with some draws right."""

from pathlib import Path

from ridefense.attacks import FGSM, PGD, SPSA, Transfer, UniformNoise
from ridefense.audit.findings import Attacked, Case, Findings
from ridefense.evaluate import RunFolder, Threat
from ridefense.gradients import FrozenWeights, Identity
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


def attacked(threat, right):
    """An attack after which `right[i]` of an image's draws are right, the first ones."""
    rows = {
        image: [row(image, threat.label, predictions=(3,) * count + (1,) * (DRAWS - count))]
        for image, count in enumerate(right)
    }
    return Attacked(threat.label, threat.settings(), rows)


def case(name, found, clean=None, purifier="RIDE", unfinished=()):
    """A run: `found` maps threats to how many draws of each image are right."""
    n = len(next(iter(found.values())))
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
    whole = attacked(noise(0.0), clean or [DRAWS] * n)
    run = RunFolder(Path(name), settings, {}, {"torch": "2"}, ())
    attacks = tuple(attacked(threat, right) for threat, right in found.items())
    missing = tuple(Attacked(t.label, t.settings(), {}) for t in unfinished)
    return Case(name, run, whole, attacks, missing)


def findings(subject, bare=None, broken=None, hardened=(), beside=(), radii=(0.1,)):
    n = len(subject.clean.rows)
    bare = bare or case("none", {gray(0.1): [0] * n}, purifier="Unchanged")
    return Findings(subject, bare, broken, tuple(hardened), tuple(beside), radii)
