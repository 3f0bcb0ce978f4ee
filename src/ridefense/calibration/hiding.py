"""What the mirages have in common: a purifier that computes the identity and hides its gradient."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor

from ridefense.describe import Plain
from ridefense.noise import Id

TOLERANCE = 1e-3
"""How far a mirage may move a pixel of [0, 1]."""


class Hiding:
    """What an outsider brings as a purifier: it returns its input to within `TOLERANCE`.

    Attributes:
        is_randomised, is_dynamic, differentiable: what it says of itself, true or not.
    """

    is_randomised: ClassVar[bool] = False
    is_dynamic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    takes_raw: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return type(self).__name__

    def described(self) -> Plain:
        """See `ridefense.describe`."""
        return {"type": self.name}

    def __call__(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        return self.hide(images)

    def hide(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [0, 1] that equal the given ones, of a mirage without draws."""
        raise NotImplementedError


def with_gradient(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The images, whose gradient [N, C, H, W] reaches their source as `change` makes it."""
    same = images.clone()
    if same.requires_grad:
        same.register_hook(change)  # type: ignore[no-untyped-call]  # PyTorch's is not typed
    return same
