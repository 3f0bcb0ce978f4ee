"""RIDE, DAE, I-DIP, DIP and Recorrupted: five frozen settings of one loop."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Generic, Literal, Self, TypeVar, overload

from torch import Tensor

from ridefense import preset_files
from ridefense.defended import Before
from ridefense.engines import Progress
from ridefense.errors import InputError
from ridefense.estimate import Callback, Estimate, estimate
from ridefense.files import FilePath
from ridefense.images import check_images
from ridefense.networks import NETWORKS, NetworkName, name_for
from ridefense.noise import Id
from ridefense.presets import PRESETS, RECORRUPTED, Change
from ridefense.settings import Settings


class NetworkPurifier(Before, ABC):
    """A purifier that fits a network to each image, with settings that the images may decide."""

    is_randomised = True
    """Whether another seed gives another result."""
    is_dynamic = True
    """Whether it optimises at test time."""
    takes_raw = True
    """Whether `raw` takes pixels beyond [0, 1]."""
    is_local = True
    """A large image may be purified in tiles, each with a network of its own."""
    differentiable = False
    """The modes of `ridefense.gradients` differentiate a fit; PyTorch by itself does not."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The estimator's."""

    @abstractmethod
    def for_images(self, images: Tensor) -> Settings:
        """The settings with which it fits these images, [N, C, H, W]."""

    def __call__(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        """Purified images, of the same shape, dtype and device; the input is not changed.

        Args:
            images: float [N, C, H, W], pixels in [0, 1].
            ids: N whole numbers or strings, by default 0, 1, …; with `seed` they decide the noise.
            seed: 0 ≤ seed < 2¹²⁸.
        """
        return self.estimate(images, ids=ids, seed=seed).value

    def raw(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        """As a call, for images with pixels beyond [0, 1]; the estimates lie in [0, 1]."""
        return estimate(self.for_images(images), images, ids=ids, seed=seed, bounded=False).value

    def estimate(
        self,
        images: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
        callback: Callback | None = None,
        every: int | None = None,
        progress: Progress | None = None,
    ) -> Estimate:
        """As a call, with everything that was found on the way; see `ridefense.estimate`."""
        return estimate(
            self.for_images(images),
            images,
            ids=ids,
            seed=seed,
            callback=callback,
            every=every,
            progress=progress,
        )


@dataclass(frozen=True, kw_only=True)
class Estimator(Settings, NetworkPurifier):
    """Settings that are a purifier; change one by `dataclasses.replace`."""

    presets: ClassVar[Mapping[str, Change]] = PRESETS
    """What each of its presets changes, by name."""

    @property
    def name(self) -> str:
        return type(self).__name__

    @classmethod
    def traits(cls) -> list[str]:
        """The settings that make it another estimator than RIDE, which no preset changes."""
        of_ride = {f.name: f.default for f in fields(RIDE)}
        return [f.name for f in fields(cls) if f.default != of_ride[f.name]]

    @overload
    @classmethod
    def preset(cls, name: FilePath = "paper", *, network: NetworkName) -> Self: ...

    @overload
    @classmethod
    def preset(cls, name: FilePath = "paper", *, network: None = None) -> "Preset[Self]": ...

    @classmethod
    def preset(
        cls, name: FilePath = "paper", *, network: NetworkName | None = None
    ) -> "Self | Preset[Self]":
        """The settings of the paper's text, of its authors' later release, or a quicker schedule.

        "paper": σ is 0.5 in normalised pixels, weights and Adam's state are carried over between
        rounds, x_est is the mean of 16 samples without dropout; pixels in (0, 1), so a sigmoid.
        "released": what the release does where it departs from the text.
        "fast": the paper's objective at a hundredth of its work, see docs/schedule.md. Not for
        photographs: one in ten loses its contrast or its colours.
        "warm": as little again, from weights fitted on other images. It brings outside data, and
        a purifier that is nearly fixed; both make it another defence than the paper's.
        `Recorrupted` has "fast" alone, which was found by a search (docs/schedule.md).

        Args:
            name: one of `cls.presets`, or the path of a .json file that `preset_files.write` wrote.
            network: of Table 3, for the images' data set. Without it the result is a `Preset`,
                which takes the network from the images of each call.

        Raises:
            InputError: for another preset or network, or a file that is no preset.
        """
        found = Preset(cls, str(name))
        return found if network is None else found.on(network)


E = TypeVar("E", bound=Estimator)


@dataclass(frozen=True)
class Preset(NetworkPurifier, Generic[E]):
    """A preset of an estimator whose network follows from the images of each call.

    `networks.name_for` has the rule: the network by the images' channels and size.

    Attributes:
        estimator: the class of the estimator.
        preset: one of `estimator.presets`, or the path of a .json file.
    """

    estimator: type[E]
    preset: str

    def __post_init__(self) -> None:
        known = self.estimator.presets
        if self.preset not in known and not self.preset.endswith(".json"):
            raise InputError(
                f"preset is {self.preset!r}; {self.name} has {', '.join(known)}, and takes a .json "
                "file of one"
            )

    @property
    def name(self) -> str:
        return self.estimator.__name__

    @property
    def noisy_input(self) -> bool:
        """Whether the network is fed the image; no preset changes that."""
        return self.estimator.noisy_input

    def on(self, network: NetworkName) -> E:
        """The estimator with this preset's settings for a network of Table 3.

        Raises:
            InputError: for another network, a file that is no preset or is for another network.
        """
        if network not in NETWORKS:
            raise InputError(f"network is {network!r}; use one of {', '.join(NETWORKS)}")
        if self.preset in self.estimator.presets:
            changes = self.estimator.presets[self.preset](network)
        else:
            made_for, changes = preset_files.read(self.preset)
            if made_for != network:
                raise InputError(
                    f"{self.preset} is a preset for {made_for}, not for {network}; use its network"
                )
        own = self.estimator(network=NETWORKS[network])
        fixed = set(self.estimator.traits())
        if not own.noisy_input:  # DIP's fixed input belongs to the whole image
            fixed.add("crop")
        return replace(own, **{k: v for k, v in changes.items() if k not in fixed})

    def for_images(self, images: Tensor) -> E:
        """The estimator for images [N, C, H, W].

        Raises:
            InputError: for images that no network of Table 3 takes.
        """
        check_images(images, bounded=False)  # the range is checked where it matters
        return self.on(name_for(images.shape))


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
    target_noise: Literal["independent", "none", "recorrupted"] = "none"


@dataclass(frozen=True, kw_only=True)
class DIP(Estimator):
    """Deep image prior: fixed noise in, the image itself as target (Eq. 4; Ulyanov et al. 2018)."""

    noisy_input: bool = False
    target_noise: Literal["independent", "none", "recorrupted"] = "none"
    alpha: float = 1.0
    suppression: Literal["below", "off"] = "off"


@dataclass(frozen=True, kw_only=True)
class Recorrupted(Estimator):
    """Fits to pairs that share their noise: Recorrupted-to-Recorrupted (Pang et al., CVPR 2021).

    The network is fed x + a·σ·n and its target is x - σ·n/a, with the same n ~ N(0, I). For an
    x = clean + e whose e ~ N(0, σ²I) the noises of input and target are then uncorrelated, so that
    the loss is that of a clean target up to a constant: the best network does not fit x itself, as
    it does where the target's noise is independent (DAE, RIDE).
    """

    presets: ClassVar[Mapping[str, Change]] = RECORRUPTED

    alpha: float = 1.0
    suppression: Literal["below", "off"] = "off"
    target_noise: Literal["independent", "none", "recorrupted"] = "recorrupted"


ESTIMATORS: dict[str, type[Estimator]] = {
    "ride": RIDE,
    "dae": DAE,
    "idip": IDIP,
    "dip": DIP,
    "recorrupted": Recorrupted,
}
"""By the name used on the command line."""
