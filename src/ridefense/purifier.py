"""What attacks, evaluations and audits rely on: a purifier, its derivative, and what it defends."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ridefense import counting
from ridefense.errors import InputError
from ridefense.noise import Id

Position = Literal["before", "inside", "instead"]
"""Where a defence acts: on the images before the classifier, on the classifier's own layers, or in
its place, as a model of its own."""


@runtime_checkable
class Purifier(Protocol):
    """A defence at test time.

    `ridefense.defended.as_purifier` makes one of any callable with this call.
    """

    @property
    def name(self) -> str:
        """As reports call it."""

    @property
    def is_randomised(self) -> bool:
        """Whether two seeds give two results, so that an attack has to average over draws."""

    @property
    def is_dynamic(self) -> bool:
        """Whether it optimises at test time."""

    @property
    def differentiable(self) -> bool:
        """Whether PyTorch's own derivative of a call is the purifier's derivative."""

    @property
    def position(self) -> Position:
        """Where it acts; one that does not act before a classifier returns images as they are."""

    @property
    def takes_raw(self) -> bool:
        """Whether `raw` takes pixels beyond [0, 1], as randomised smoothing shows them."""

    @property
    def stand_ins(self) -> tuple[nn.Module, ...]:
        """Smooth imitations of a purifier without a derivative, to be attacked in its place."""

    def raw(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        """As a call, for images with pixels beyond [0, 1]."""

    def __call__(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        """Purified images, of the same shape, dtype and device.

        Args:
            images: float [N, C, H, W], pixels in [0, 1]; they are not changed.
            ids: of the images, by default 0, 1, …; with `seed` they decide the randomness.
            seed: of this draw.
        """

    def behind(
        self, classifier: nn.Module, gradient: "GradientMode | None" = None, seed: int = 0
    ) -> "DefendedModel":
        """The classifier with this defence, from pixels to logits.

        Args:
            classifier: pixels [N, C, H, W] in [0, 1] to logits [N, classes].
            gradient: how an attacker differentiates the purifier; the identity by default. A
                defence inside a classifier has PyTorch's own derivative, whatever the mode.
            seed: of the randomness of calls that name no seed.
        """


class GradientMode(Protocol):
    """How ∂(purified)/∂(input) is taken."""

    @property
    def name(self) -> str:
        """As reports call it."""
        return type(self).__name__

    @property
    def purifications(self) -> float:
        """What a gradient costs, in runs of the purifier without one."""
        return 1.0

    def views(
        self,
        purify: Purifier,
        images: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Purified images [M, N, C, H, W], connected to `images` [N, C, H, W] as the mode says."""
        raise NotImplementedError


class DefendedModel(nn.Module, ABC):
    """A classifier with a defence, from pixels to logits; `ridefense.Defended` has the arguments.

    Attributes:
        classifier: pixels [N, C, H, W] in [0, 1] to logits [N, classes].
        purifier: the defence.
        gradient: how an attacker differentiates the purifier.
        seed: of the randomness of calls that name no seed.
    """

    classifier: nn.Module
    purifier: Purifier
    gradient: GradientMode
    seed: int

    @property
    def refuses(self) -> bool:
        """Whether the last column of the logits says that the model refuses to answer."""
        return False

    @abstractmethod
    def forward(
        self, images: Tensor, ids: Sequence[Id] | None = None, seed: int | None = None
    ) -> Tensor:
        """Logits [N, classes] of the purified images."""

    @abstractmethod
    def views(
        self, images: Tensor, ids: Sequence[Id] | None = None, seed: int | None = None
    ) -> Tensor:
        """Logits of every view of the gradient mode, [M, N, classes]; the last is the real one."""

    @abstractmethod
    def purified(
        self, images: Tensor, ids: Sequence[Id] | None = None, seed: int | None = None
    ) -> Tensor:
        """Purified images [N, C, H, W], detached."""

    @abstractmethod
    def classified(self, purified: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
        """Logits [N, classes] of purified images."""


Call = Callable[..., Tensor]
"""What a user brings: (images, ids=None, seed=0) to purified images."""


def check_call(purifier: object) -> None:
    """Refuse an object that cannot be called as a purifier is.

    Raises:
        InputError: for an object that is not callable, or does not take (images, ids=…, seed=…).
    """
    if not callable(purifier):
        raise InputError(f"purifier is {named(purifier)}; pass a callable, as Median(3)")
    call: Callable[..., object] = purifier
    if isinstance(purifier, nn.Module) and type(purifier).__call__ is nn.Module.__call__:
        call = purifier.forward
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # compiled code has none
        return
    try:
        signature.bind(None, ids=None, seed=0)
    except TypeError as error:
        raise InputError(
            f"purifier is {named(purifier)}, which cannot take (images, ids=…, seed=…): {error}; "
            "let it accept all three, and pass the classifier before it"
        ) from error


def purified_by(purifier: Call, images: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
    """A purifier's images [N, C, H, W], in memory of their own.

    Raises:
        InputError: where the purifier does not return a tensor of the images' shape and dtype on
            their device, or has changed the images.
    """
    before = images.detach().clone()
    with counting.purification(len(images)):
        found = purifier(images, ids=ids, seed=seed)
    if not isinstance(found, Tensor) or found.shape != images.shape:
        made = tuple(found.shape) if isinstance(found, Tensor) else named(found)
        raise InputError(
            f"purifier {named(purifier)} returned {made} for images {tuple(images.shape)}; "
            "let it return a tensor of their shape"
        )
    if (found.dtype, found.device) != (images.dtype, images.device):
        raise InputError(
            f"purifier {named(purifier)} returned {found.dtype} on {found.device} for images of "
            f"{images.dtype} on {images.device}; let it return purified.to(images)"
        )
    now = images.detach()
    if not torch.equal(before, now) and not bool(((before == now) | now.isnan()).all()):
        raise InputError(
            f"purifier {named(purifier)} changes the images that it is given; "
            "let it work on images.clone()"
        )
    # It may have returned the images themselves, or a buffer that its next call overwrites.
    return found.clone(memory_format=torch.contiguous_format)


def named(value: object) -> str:
    """A value in a few words of one line, for errors."""
    value = getattr(value, "adapted", value)  # of `defended.Adapted`: what the user brought
    if value is None or isinstance(value, str | bool | int | float):
        return f"{value!r:.60}"
    name = getattr(value, "__name__", None)
    return f"{name}, a {type(value).__name__}" if name else f"a {type(value).__name__}"
