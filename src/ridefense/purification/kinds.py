"""The kinds of images that `purify` takes, and how each is given back.

Every kind becomes float32 images [N, C, H, W] with pixels in [0, 1], and knows how to make of
purified images what it was: the same kind, layout, dtype, device and size.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, TypeGuard, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ridefense import imagefiles
from ridefense.errors import InputError
from ridefense.imageparts import Parts, split
from ridefense.images import check_images
from ridefense.purification.layouts import (
    Layout,
    as_before,
    channels_first,
    check_layout,
    layout_of,
)

FilePath = str | os.PathLike[str]
Single = FilePath | Image.Image | np.ndarray[Any, Any] | Tensor
"""What one call takes, apart from lists."""


@dataclass(frozen=True)
class Given:
    """What was given, as images to purify.

    Attributes:
        images: float32 [N, C, H, W] in [0, 1]; never the memory of what was given.
        restored: makes of purified images [N, C, H, W] what was given.
    """

    images: Tensor
    restored: Callable[[Tensor], Any]


def given(x: object, layout: Layout | None = None) -> Given:
    """What was given, as images.

    Args:
        x: a path, a PIL image, an array or a tensor; see `ridefense.purify`.
        layout: of an array or a tensor; None finds it by the shape.

    Raises:
        InputError: for anything else, for a file that is no image, and for shapes, dtypes and
            ranges that no image has.
    """
    if isinstance(x, Tensor):
        return _tensor(x, layout)
    if isinstance(x, np.ndarray):
        return _array(x, layout)
    if layout is not None:
        raise InputError(f"layout is {layout!r}, but x is a {type(x).__name__}; leave layout out")
    if isinstance(x, Image.Image):
        return _picture(x, "the image")
    if isinstance(x, str | os.PathLike):
        return _picture(imagefiles.decoded(x, os.fspath(x)).image, os.fspath(x))
    raise InputError(
        f"x is a {type(x).__name__}; pass a path, a PIL image, a NumPy array, a tensor, or a list "
        "of them"
    )


def _tensor(x: Tensor, layout: Layout | None) -> Given:
    values = x.detach()
    vision = _tv_tensors()
    is_image = vision is not None and isinstance(x, vision.TVTensor)
    if is_image:
        values = values.as_subclass(Tensor)
        layout = layout or _first(values)
    found = _checked_layout(values.shape, layout, "tensor", channels_first=True)
    pixels = channels_first(_scaled(values, "tensor", "x.float() / 255"), found)
    check_images(pixels)

    def restored(images: Tensor) -> Tensor:
        made = as_before(_quantised(images, x.dtype), found)
        if not is_image or vision is None:
            return made
        return cast(Tensor, vision.wrap(made, like=x))

    return Given(pixels.contiguous(), restored)


def _array(x: np.ndarray[Any, Any], layout: Layout | None) -> Given:
    if isinstance(x, np.ma.MaskedArray):
        raise InputError("x is a masked array, and images have no mask; pass x.filled(0)")
    found = _checked_layout(x.shape, layout, "array", channels_first=False)
    if x.dtype != np.uint8 and (x.dtype.kind != "f" or x.dtype.itemsize > 8):
        raise InputError(f"array has dtype {x.dtype}; {_remedy(x)}")
    # A copy of native byte order: PyTorch takes neither another one nor negative strides.
    own = np.array(x, dtype=np.uint8 if x.dtype == np.uint8 else np.float32, order="C")
    pixels = channels_first(_scaled(torch.from_numpy(own), "array", ""), found)
    check_images(pixels)

    def restored(images: Tensor) -> np.ndarray[Any, Any]:
        levels = torch.uint8 if x.dtype == np.uint8 else torch.float32
        made: np.ndarray[Any, Any] = as_before(_quantised(images, levels), found).cpu().numpy()
        return made.astype(x.dtype, copy=False)

    return Given(pixels.contiguous(), restored)


def _picture(image: Image.Image, name: str) -> Given:
    if 0 in image.size:
        raise InputError(f"{name} has {image.width}×{image.height} pixels; pass one with pixels")
    parts = split(image, name)
    return Given(parts.pixels[None].float().div_(255), partial(_joined, parts))


def _joined(parts: Parts, images: Tensor) -> Image.Image:
    (levels,) = _quantised(images, torch.uint8)
    return parts.joined(levels)


def _checked_layout(
    shape: torch.Size | tuple[int, ...], layout: Layout | None, what: str, *, channels_first: bool
) -> Layout:
    if layout is None:
        return layout_of(shape, what, channels_first=channels_first)
    check_layout(layout, shape, what)
    return layout


def _first(values: Tensor) -> Layout | None:
    """The layout of torchvision's images, which have their channels first."""
    return {2: "HW", 3: "CHW", 4: "NCHW"}.get(values.ndim)  # type: ignore[return-value]  # literals


def _scaled(values: Tensor, what: str, remedy: str) -> Tensor:
    """Levels of uint8 or floating point as float32 pixels, in memory of their own."""
    if values.dtype == torch.uint8:
        return values.float().div_(255)
    if not values.is_floating_point():
        raise InputError(f"{what} has dtype {values.dtype}; convert it to uint8, or pass {remedy}")
    return values.to(torch.float32, copy=True)


def _quantised(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Pixels in [0, 1] as this dtype; of uint8 the nearest level, halves to the even one."""
    return images.mul(255).round_().to(dtype) if dtype == torch.uint8 else images.to(dtype)


def _remedy(x: np.ndarray[Any, Any]) -> str:
    if x.dtype == np.uint16:
        return "pass x / 65535, or for levels up to 255 x.astype('uint8')"
    if x.dtype.kind in "bui":
        return "for levels up to 255 pass x.astype('uint8')"
    return "pass uint8, or float32 in [0, 1]"


def _tv_tensors() -> ModuleType | None:
    """torchvision's module of that name, if anybody has imported it."""
    return sys.modules.get("torchvision.tv_tensors")


def is_vision_image(x: object) -> TypeGuard[Tensor]:
    """Whether it is an image or a video of torchvision's transforms."""
    vision = _tv_tensors()
    return vision is not None and isinstance(x, vision.Image | vision.Video)


def is_other_vision(x: object) -> bool:
    """Whether it is a box, a mask or another annotation of torchvision's transforms."""
    vision = _tv_tensors()
    return vision is not None and isinstance(x, vision.TVTensor) and not is_vision_image(x)
