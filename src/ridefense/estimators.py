"""RIDE, DAE, I-DIP and DIP: four frozen settings of one loop, and the presets."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, Self

from torch import Tensor

from ridefense import presets
from ridefense.engines import Progress
from ridefense.errors import InputError
from ridefense.estimate import Callback, Estimate, estimate
from ridefense.images import IMAGENET, MNIST
from ridefense.networks import NETWORKS
from ridefense.settings import Settings

_NORMALISATIONS = {"mnist": MNIST, "cifar10": IMAGENET, "imagenet": IMAGENET}


@dataclass(frozen=True, kw_only=True)
class Estimator(Settings):
    """A purifier that fits a network to each image; change a setting by `dataclasses.replace`."""

    is_randomised = True
    """Whether another seed gives another result."""
    is_dynamic = True
    takes_raw = True
    """Whether `raw` takes pixels beyond [0, 1]."""
    """Whether it optimises at test time."""

    @property
    def name(self) -> str:
        return type(self).__name__

    def __call__(self, images: Tensor, ids: Sequence[int] | None = None, seed: int = 0) -> Tensor:
        """Purified images, of the same shape, dtype and device; the input is not changed.

        Args:
            images: float [N, C, H, W], pixels in [0, 1].
            ids: N whole numbers below 2³², by default 0, 1, …; with `seed` they decide the noise.
            seed: 0 ≤ seed < 2³².
        """
        return self.estimate(images, ids=ids, seed=seed).value

    def raw(self, images: Tensor, ids: Sequence[int] | None = None, seed: int = 0) -> Tensor:
        """As a call, for images with pixels beyond [0, 1]; the estimates lie in [0, 1]."""
        return estimate(self, images, ids=ids, seed=seed, bounded=False).value

    def estimate(
        self,
        images: Tensor,
        *,
        ids: Sequence[int] | None = None,
        seed: int = 0,
        callback: Callback | None = None,
        every: int | None = None,
        progress: Progress | None = None,
    ) -> Estimate:
        """As a call, with everything that was found on the way; see `ridefense.estimate`."""
        return estimate(
            self,
            images,
            ids=ids,
            seed=seed,
            callback=callback,
            every=every,
            progress=progress,
        )

    @classmethod
    def traits(cls) -> list[str]:
        """The settings that make it another estimator than RIDE, which no preset changes."""
        of_ride = {f.name: f.default for f in fields(RIDE)}
        return [f.name for f in fields(cls) if f.default != of_ride[f.name]]

    @classmethod
    def preset(
        cls,
        name: str | os.PathLike[str] = "paper",
        *,
        network: Literal["mnist", "cifar10", "imagenet"],
    ) -> Self:
        """The settings of the paper's text, of its authors' later release, or a quicker schedule.

        "paper": σ is 0.5 in normalised pixels, weights and Adam's state are carried over between
        rounds, x_est is the mean of 16 samples without dropout; pixels in (0, 1), so a sigmoid.
        "released": what the release does where it departs from the text.
        "fast": the paper's objective at a hundredth of its work, see docs/schedule.md.
        "warm": as little again, from weights fitted on other images. It brings outside data, and
        a purifier that is nearly fixed; both make it another defence than the paper's.

        Args:
            name: one of `PRESETS`, or the path of a .json file that `presets.write` wrote.
            network: of Table 3, for the images' dataset.

        Raises:
            InputError: for another preset or network, or a file that is no preset.
        """
        if network not in NETWORKS:
            raise InputError(f"network is {network!r}; use one of {', '.join(NETWORKS)}")
        own = cls(network=NETWORKS[network])
        name = os.fspath(name)
        if name.endswith(".json"):
            settings = presets.read(name, network)
        elif name in PRESETS:
            settings = PRESETS[name](network)
        else:
            raise InputError(
                f"preset is {name!r}; use one of {', '.join(PRESETS)}, or a .json file of one"
            )
        for trait in cls.traits():
            settings.pop(trait, None)
        if not own.noisy_input:  # DIP's fixed input belongs to the whole image
            settings.pop("crop", None)
        return replace(own, **settings)


@dataclass(frozen=True, kw_only=True)
class RIDE(Estimator):
    """Robust Iterative Data Estimation: denoise, then move the estimate, T times (Alg. 2)."""


@dataclass(frozen=True, kw_only=True)
class DAE(Estimator):
    """The denoising auto-encoder of a single image: RIDE without updates (Eq. 7, Alg. 1)."""

    alpha: float = 1.0
    suppression: Literal["below", "off"] = "off"


@dataclass(frozen=True, kw_only=True)
class IDIP(Estimator):
    """Iterative deep image prior: DIP whose target is updated as RIDE's."""

    noisy_input: bool = False
    noisy_target: bool = False


@dataclass(frozen=True, kw_only=True)
class DIP(Estimator):
    """Deep image prior: fixed noise in, the image itself as target (Eq. 4; Ulyanov et al. 2018)."""

    noisy_input: bool = False
    noisy_target: bool = False
    alpha: float = 1.0
    suppression: Literal["below", "off"] = "off"


ESTIMATORS = {"ride": RIDE, "dae": DAE, "idip": IDIP, "dip": DIP}
"""By the name used on the command line."""


def _paper(network: str) -> dict[str, object]:
    return {"sigma": _NORMALISATIONS[network].sigma(0.5), "refits": 2}


def _released(network: str) -> dict[str, object]:
    common = {"loss": "norm", "init": "xavier", "output": "last"}
    if network == "mnist":
        # The release's mask multiplies one number, the norm; so no pixel is left out.
        return common | {"sigma": 0.1, "steps": 200, "mask_ratio": 0.0}
    return common | {
        "network": replace(NETWORKS[network], sigmoid=False),
        "normalisation": _NORMALISATIONS[network],
        "sigma": 0.5,
        "noisy_target": False,
        "mask_ratio": 0.0,
        "learning_rate": 1e-3,
        "weight_decay": 1e-5,
        "amsgrad": True,
    }


def _fast(network: str) -> dict[str, object]:
    # Few steps need a high rate; the mask would waste pixels, and many samples of x_est more time
    # than the steps between two rounds. Xavier's start collapses less often than the default, and
    # Adam begun anew in each short round less often still. At 224×224 many steps of a crop do more
    # than few of the whole image. All by docs/schedule.md.
    common = {"mask_ratio": 0.0, "init": "xavier", "samples": 2}
    schedules = {
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
    return _paper(network) | common | schedules[network]


def _warm(network: str) -> dict[str, object]:
    return _paper(network) | {
        "steps": 4,
        "learning_rate": 3e-4,
        "mask_ratio": 0.0,
        "init": "pretrained",
        "samples": 2,
    }


PRESETS = {"paper": _paper, "released": _released, "fast": _fast, "warm": _warm}
"""What a preset changes of the defaults, by its name: a function of the network's name."""
