"""What a purifier is, and a call of one whose mistakes are told."""

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ridefense.errors import InputError

Purifier = Callable[..., Tensor]
"""(images, ids=None, seed=0) to purified images of the same shape, dtype and device."""


def check_purifier(purifier: object) -> None:
    """Refuse what cannot be called as a `Purifier` is.

    Raises:
        InputError: for what is no callable, or does not take (images, ids=…, seed=…).
    """
    if not callable(purifier):
        raise InputError(f"purifier is {named(purifier)}; pass a callable, as Median(3)")
    call = purifier
    if isinstance(purifier, nn.Module) and type(purifier).__call__ is nn.Module.__call__:
        call = purifier.forward
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # it has none: compiled code
        signature = None
    try:
        if signature is not None:
            signature.bind(None, ids=None, seed=0)
    except TypeError as error:
        raise InputError(
            f"purifier is {named(purifier)}, which cannot take (images, ids=…, seed=…): {error}; "
            "let it accept all three, and pass the classifier before it"
        ) from error


def purified_by(purifier: Purifier, images: Tensor, ids: Sequence[int] | None, seed: int) -> Tensor:
    """What a purifier makes of images [N, C, H, W].

    Raises:
        InputError: where that is no tensor of their shape and dtype on their device, or where it
            has changed the images.
    """
    before = images.detach().clone()
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
    return found


def takes_raw(purifier: object) -> bool:
    """Whether a purifier says that its method `raw` takes pixels beyond [0, 1]."""
    return bool(getattr(purifier, "takes_raw", False))


def named(value: object) -> str:
    """What it is, in few words of one line."""
    if value is None or isinstance(value, str | bool | int | float):
        return f"{value!r:.60}"
    name = getattr(value, "__name__", None)
    return f"{name}, a {type(value).__name__}" if name else f"a {type(value).__name__}"
