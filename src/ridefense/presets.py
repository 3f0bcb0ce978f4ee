"""The presets: the settings that `RIDE.preset("fast", …)` and its siblings change.

docs/schedule.md says how they were chosen and what each costs.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ridefense.images import IMAGENET, MNIST, Normalisation
from ridefense.networks import NETWORKS, RESIDUAL, NetworkName

Changes = dict[str, Any]
"""Values of `Settings`, by field."""

Change = Callable[[NetworkName], Changes]
"""A preset: what it changes of the defaults, given the network's name."""

_NORMALISATIONS: dict[NetworkName, Normalisation] = {
    "mnist": MNIST,
    "cifar10": IMAGENET,
    "imagenet": IMAGENET,
}


def paper(network: NetworkName) -> Changes:
    """The paper's text. σ = 0.5 is read as in normalised pixels."""
    return {"sigma": _NORMALISATIONS[network].sigma(0.5), "refits": 2}


def released(network: NetworkName) -> Changes:
    """The authors' later release, where it departs from the text."""
    common: Changes = {"loss": "norm", "init": "xavier", "output": "last"}
    if network == "mnist":
        # The release's mask multiplies one number, the norm; so no pixel is left out.
        return common | {"sigma": 0.1, "steps": 200, "mask_ratio": 0.0}
    return common | {
        "network": replace(NETWORKS[network], sigmoid=False),
        "normalisation": _NORMALISATIONS[network],
        "sigma": 0.5,
        "target_noise": "none",
        "mask_ratio": 0.0,
        "learning_rate": 1e-3,
        "weight_decay": 1e-5,
        "amsgrad": True,
    }


def fast(network: NetworkName) -> Changes:
    """The paper's objective at a hundredth of its work.

    Few steps need a high rate; the mask would waste pixels, and many samples of x_est more time
    than the steps between two rounds. Xavier's start collapses less often than the default, and
    Adam begun anew in each short round less often still. At 224×224 many steps of a crop do more
    than few of the whole image.
    """
    common: Changes = {"mask_ratio": 0.0, "init": "xavier", "samples": 2}
    schedules: dict[str, Changes] = {
        "mnist": {"steps": 10, "rounds": 10, "learning_rate": 4e-3, "carry": "weights"},
        "cifar10": {"steps": 50, "rounds": 2, "learning_rate": 5e-3},
        "imagenet": {
            "steps": 200,
            "rounds": 2,
            "learning_rate": 3e-3,
            "init": "kaiming",
            "crop": 64,
        },
    }
    return paper(network) | common | schedules[network]


def warm(network: NetworkName) -> Changes:
    """Twenty steps from weights that were fitted on other images."""
    return paper(network) | {
        "steps": 4,
        "learning_rate": 3e-4,
        "mask_ratio": 0.0,
        "init": "pretrained",
        "samples": 2,
    }


def recorrupted(network: NetworkName) -> Changes:
    """Of `Recorrupted`: a shallow residual network, a round of a hundred steps."""
    return {
        "network": RESIDUAL[network],
        "sigma": 0.1,
        "recorruption": 0.5,
        "steps": 100,
        "rounds": 1,
        "learning_rate": 3e-3,
        "decay": "cosine",
        "mask_ratio": 0.0,
        "weight_decay": 0.0,
        "output": "noiseless",
    }


PRESETS: dict[str, Change] = {
    "paper": paper,
    "released": released,
    "fast": fast,
    "warm": warm,
}
"""The presets of the paper's estimators, by name."""

RECORRUPTED: dict[str, Change] = {"fast": recorrupted}
"""Those of `Recorrupted`."""
