"""Where an array or a tensor has its channels."""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from ridefense.errors import InputError

Layout = Literal["HW", "HWC", "CHW", "NHWC", "NCHW"]
"""The axes of an array: N images, height H, width W, channels C."""

_CHANNELS = (1, 3)


def layout_of(shape: Sequence[int], what: str, *, channels_first: bool) -> Layout:
    """The layout of images of this shape, which have 1 or 3 channels.

    Args:
        shape: of the array.
        what: what errors call it, as "array".
        channels_first: what to take where the first and the last axis could both be the channels;
            False refuses the shape.

    Raises:
        InputError: for a shape of no image, and for one that can be read in two ways.
    """
    told = f"{what} has shape {tuple(shape)}"
    if len(shape) == 2:
        return "HW"
    if len(shape) not in (3, 4):
        raise InputError(f"{told}; pass one image, as [H, W, 3], or a batch, as [N, 3, H, W]")
    first, last = shape[-3] in _CHANNELS, shape[-1] in _CHANNELS
    if first and last and not channels_first:
        raise InputError(
            f"{told}, which has channels first or last; say which: layout='CHW' or 'HWC' "
            "(of a batch 'NCHW' or 'NHWC')"
        )
    if first:
        return "CHW" if len(shape) == 3 else "NCHW"
    if last:
        return "HWC" if len(shape) == 3 else "NHWC"
    if 4 in (shape[-3], shape[-1]):
        raise InputError(f"{told}, with 4 channels; pass the 3 colours without transparency")
    raise InputError(
        f"{told}, where neither the first nor the last axis of an image has 1 or 3 channels; "
        "pass such an image, or say where the channels are, as layout='CHW'"
    )


def check_layout(layout: object, shape: Sequence[int] | None = None, what: str = "array") -> None:
    """Refuse a layout that does not exist, or is of another number of axes than a shape.

    Raises:
        InputError: that names the layout.
    """
    known = get_args(Layout)
    if layout not in known:
        raise InputError(f"layout is {layout!r}; use one of {', '.join(known)}")
    if shape is not None and len(str(layout)) != len(shape):
        raise InputError(
            f"{what} has shape {tuple(shape)}, but layout is {layout!r}; give one letter an axis"
        )


def channels_first(pixels: Tensor, layout: Layout) -> Tensor:
    """Images in this layout as [N, C, H, W]: a view."""
    if layout == "HW":
        return pixels[None, None]
    batch = pixels if layout.startswith("N") else pixels[None]
    return batch.movedim(-1, 1) if layout.endswith("C") else batch


def as_before(images: Tensor, layout: Layout) -> Tensor:
    """Images [N, C, H, W] in this layout, contiguous: the inverse of `channels_first`."""
    if layout == "HW":
        return images[0, 0].contiguous()
    moved = images.movedim(1, -1) if layout.endswith("C") else images
    return (moved if layout.startswith("N") else moved[0]).contiguous()
