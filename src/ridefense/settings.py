"""The settings of the fitting loop: everything that tells one estimator from another."""

import math
from dataclasses import dataclass, fields
from functools import cache
from numbers import Real
from typing import (
    Literal,
    Protocol,
    Self,
    get_args,
    get_origin,
    get_type_hints,
    runtime_checkable,
)

from torch import Tensor

from ridefense.errors import InputError, check_whole
from ridefense.images import Normalisation
from ridefense.names import EngineName, OnCollapse
from ridefense.networks import Init, Network
from ridefense.noise import Stream


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the fitting loop; the defaults are the paper's RIDE (Alg. 2, section 3.4).

    Attributes:
        network: the network that is fitted to each image (Table 3); it has to be given.
        steps: K, gradient steps a round.
        rounds: T, rounds; after each the estimate x is updated.
        batch: n, noisy inputs a step, each with its own target, mask and dropout.
        alpha: α of Eq. 9, the share of the old x that an update keeps; at 1 only suppression
            changes x.
        suppression: non-maximum suppression at the update (appendix): "below" replaces the pixels
            whose difference lies below the image's median, "off" replaces none.
        noisy_input: whether z is x + σ·noise, fresh every step (DAE, RIDE), or one fixed image of
            uniform noise (DIP, I-DIP).
        target_noise: the noise of the target s. "independent": s = x + σ·noise, fresh and
            independent of z; "none": s = x; "recorrupted": z = x + a·σ·n and s = x - σ·n/a with the
            same n (Recorrupted-to-Recorrupted, Pang et al. 2021).
        recorruption: a of a recorrupted target; else unused.
        sigma: σ, the standard deviation of that noise, for all channels or one for each, in the
            units the network works in: [0, 1] pixels, or normalised ones under `normalisation`.
        mask_ratio: p, the share of pixels that a step's loss leaves out at random (appendix).
        loss: "mse", or "norm", the un-squared ℓ2 norm of the whole difference.
        learning_rate: Adam's.
        decay: its course over the K·T steps: "constant", or "cosine" to zero.
        weight_decay: added to the gradient, as Adam's in PyTorch.
        amsgrad: Adam's AMSGrad variant.
        carry: what a new round keeps: "all", or the "weights" without Adam's state.
        init: how initial kernels are drawn, see `Network.init`.
        output: x_est: "eval", the mean of `samples` passes without dropout; "last", the forward
            pass of the round's last training step; "noiseless", h(x), a pass without dropout whose
            input carries no noise.
        samples: m, how many z the expectation over z is taken from.
        normalisation: where given, the network works on images normalised so, else on [0, 1].
        crop: where given, each step fits a random crop of this many pixels a side; a smaller image
            is fitted whole. Not with a fixed input.
        refits: how often an image whose estimate collapsed is fitted again, with other random
            numbers.
        refit_when: which estimates are: those that are "constant", or all that are "collapsed", so
            also those of little contrast or without their colours (`collapse.py`).
        on_collapse: what becomes of an estimate that is collapsed after all refits: "keep" returns
            it with a `CollapseWarning`, "input" the image itself in its place, "raise" an error.
        check_descent: whether Theorem 1's condition is measured at every round (Eqs. 11-13).
        engine: what executes the loop; "auto" takes the fastest that can.
    """

    network: Network = None  # type: ignore[assignment]  # None is refused, with the remedy
    steps: int = 2000
    rounds: int = 5
    batch: int = 1
    alpha: float = 0.9
    suppression: Literal["below", "off"] = "below"
    noisy_input: bool = True
    target_noise: Literal["independent", "none", "recorrupted"] = "independent"
    recorruption: float = 0.5
    sigma: float | tuple[float, ...] = 0.5
    mask_ratio: float = 0.9
    loss: Literal["mse", "norm"] = "mse"
    learning_rate: float = 1e-4
    decay: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 1e-4
    amsgrad: bool = False
    carry: Literal["all", "weights"] = "all"
    init: Init = "uniform"
    output: Literal["eval", "last", "noiseless"] = "eval"
    samples: int = 16
    normalisation: Normalisation | None = None
    crop: int | None = None
    refits: int = 0
    refit_when: Literal["constant", "collapsed"] = "constant"
    on_collapse: OnCollapse = "keep"
    check_descent: bool = False
    engine: EngineName = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.network, Network):
            raise InputError(
                f"network is {self.network!r}; use a Network, as NETWORKS['mnist'], or a preset, "
                "as RIDE.preset('fast')"
            )
        if isinstance(self.sigma, list):  # as JSON has it
            object.__setattr__(self, "sigma", tuple(self.sigma))
        for name in ("steps", "rounds", "batch", "samples", "refits"):
            check_whole(name, getattr(self, name), 0 if name == "refits" else 1)
        if self.crop is not None and (not isinstance(self.crop, int) or self.crop < 3):
            raise InputError(f"crop is {self.crop!r}; use None or at least 3 pixels")
        for name in ("noisy_input", "amsgrad", "check_descent"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is {getattr(self, name)!r}; use True or False")
        if not self.noisy_input and self.crop is not None:
            raise InputError(
                f"crop is {self.crop}; a fixed input (DIP, I-DIP) belongs to the whole image: "
                "use None"
            )
        if not self.noisy_input and self.target_noise == "recorrupted":
            raise InputError(
                "target_noise is 'recorrupted' with a fixed input, which carries no noise that the "
                "target could share; set noisy_input=True"
            )
        if self.batch > 256 or self.samples > 256:
            raise InputError(f"batch {self.batch}, samples {self.samples}; use at most 256")
        for name, low, high in (("alpha", 0, 1), ("mask_ratio", 0, 0.999)):
            value = getattr(self, name)
            if not low <= _real(value) <= high:
                raise InputError(f"{name} is {value}; use a number from {low} to {high}")
        if not (_is_amount(self.recorruption) and self.recorruption > 0):
            raise InputError(f"recorruption is {self.recorruption}; use a number above 0")
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            if not _is_amount(value):
                raise InputError(f"{name} is {value}; use a number that is not negative")
        for sigma in self.sigmas:
            if not _is_amount(sigma):
                raise InputError(f"sigma is {self.sigma}; use numbers that are not negative")
        space, channels = self.normalisation, self.network.channels[0]
        if not isinstance(space, Normalisation | None):
            raise InputError(f"normalisation is {space!r}; use None or a Normalisation")
        if space is not None and len(space.mean) != channels:
            raise InputError(
                f"normalisation has {len(space.mean)} channels, the network {channels}; "
                "use that of the images' dataset"
            )
        for name, choices in _choices().items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; use one of {', '.join(choices)}"
                )

    @property
    def sigmas(self) -> tuple[float, ...]:
        """σ of each channel."""
        if isinstance(self.sigma, tuple):
            if len(self.sigma) != self.network.channels[0]:
                raise InputError(
                    f"sigma is {self.sigma} for {self.network.channels[0]} channels; "
                    "give one number, or one a channel"
                )
            return self.sigma
        return (self.sigma,) * self.network.channels[0]

    @property
    def input_sigmas(self) -> tuple[float, ...]:
        """Standard deviation of the input's noise, of each channel: σ, or a·σ."""
        a = self.recorruption if self.target_noise == "recorrupted" else 1.0
        return tuple(a * sigma for sigma in self.sigmas)

    @property
    def expectation(self) -> tuple[int, Stream | None]:
        """The z that E_z h(z; w) is the mean over: how many, of which stream (None: no noise)."""
        return (1, None) if self.output == "noiseless" else (self.samples, Stream.OUTPUT)

    @property
    def total_steps(self) -> int:
        """K·T."""
        return self.steps * self.rounds

    def rate(self, step: int) -> float:
        """The learning rate of a step, 0 ≤ step < K·T."""
        if self.decay == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.total_steps))

    def flops(self, height: int, width: int) -> int:
        """Operations of a whole fit of one image, 2 a multiply-add, backward = 2 × forward."""
        size = (height, width)
        if self.crop is not None and self.crop <= min(size):
            size = (self.crop, self.crop)
        network = self.network
        layers = zip(network.convolutions, network.taps, network.levels, strict=True)
        products = sum(
            taps * c_in * c_out * -(-size[0] >> level) * -(-size[1] >> level)  # rounded up
            for (c_in, c_out), taps, level in layers
        )
        return 3 * 2 * products * self.batch * self.total_steps

    def for_images(self, images: Tensor) -> Self:
        """The same settings, whatever the images."""
        return self

    def differences(self, other: "Settings") -> dict[str, tuple[object, object]]:
        """The fields in which two settings differ, with both values."""
        return {
            f.name: (getattr(self, f.name), getattr(other, f.name))
            for f in fields(Settings)
            if getattr(self, f.name) != getattr(other, f.name)
        }


@runtime_checkable
class FitsNetworks(Protocol):
    """What fits a network to each image: settings, or a preset that awaits the images."""

    @property
    def noisy_input(self) -> bool:
        """Whether the network is fed the image, see `Settings`."""

    def for_images(self, images: Tensor) -> Settings:
        """The settings with which it fits images [N, C, H, W]."""


def settings_for(purifier: object, images: Tensor) -> Settings | None:
    """The settings with which a purifier fits networks to these images; None if it fits none."""
    return purifier.for_images(images) if isinstance(purifier, FitsNetworks) else None


@cache
def _choices() -> dict[str, tuple[str, ...]]:
    """The values of each field of `Settings` that has a fixed set of them."""
    types = get_type_hints(Settings)
    return {name: get_args(of) for name, of in types.items() if get_origin(of) is Literal}


def _real(value: object) -> float:
    """A value as a float: NaN where it is no number, infinity where it is too large for one."""
    try:
        return float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        return math.inf


def _is_amount(value: object) -> bool:
    return 0 <= _real(value) < math.inf


def alpha_from_lambda(weight: float) -> float:
    """α = λ/(1+λ): the update of Eq. 9 for the weight λ of Eq. 8, λ ≥ 0."""
    if not weight >= 0:
        raise InputError(f"lambda is {weight}; use a number that is not negative")
    return 1.0 if math.isinf(weight) else weight / (1 + weight)
