"""Image files: read with suspicion, written as 8-bit PNG."""

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torchvision.transforms import functional as transforms

from ridefense.errors import InputError
from ridefense.files import write_atomically

MAX_PIXELS = 64_000_000
"""Larger images are refused before they are decoded."""

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")


def load_image(path: str | os.PathLike[str]) -> Tensor:
    """An image file as float32 [C, H, W] in [0, 1]; C is 1 for a grey image, else 3.

    The camera's orientation tag is obeyed and transparency dropped.

    Raises:
        InputError: for a missing, corrupt, 16-bit or gigantic (over 64 megapixels) file.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} is no file; pass the path of a PNG or JPEG image")
    return tensor(opened(path, str(path), upright=True)).float() / 255


def save_image(image: Tensor, path: str | os.PathLike[str]) -> None:
    """Write a float image [C, H, W] in [0, 1], C 1 or 3, as an 8-bit PNG.

    Each value becomes the nearest of the 256 levels, round(255·x), halves to the even level.

    Raises:
        InputError: for another shape or range, or another suffix than .png.
        RideError: if the file cannot be written.
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise InputError(f"image has shape {tuple(image.shape)}; pass [1, H, W] or [3, H, W]")
    image = image.detach().cpu()
    if not bool(((image >= 0) & (image <= 1)).all()):
        raise InputError("image has values outside [0, 1] or NaN; clamp it before saving")
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path} does not end in .png; images are written as PNG, without loss")
    levels = (image.float() * 255).round().byte()
    encoded = io.BytesIO()
    transforms.to_pil_image(levels).save(encoded, format="PNG")
    write_atomically(path, encoded.getvalue())


def opened(
    source: str | os.PathLike[str] | BinaryIO, name: str, upright: bool = False
) -> Image.Image:
    """A decoded image in mode L or RGB; `name` is what an error calls it."""
    try:
        with _header(source) as image:
            width, height = image.size
            if width * height <= MAX_PIXELS and not _deep(image):
                image.load()
                return _eight_bit(ImageOps.exif_transpose(image) if upright else image)
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} is too large ({error}); shrink it below 64 megapixels") from error
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{name} cannot be read as an image ({reason}); save it again as PNG or JPEG"
        ) from error
    if width * height > MAX_PIXELS:
        raise InputError(f"{name} has {width}×{height} pixels; shrink it below 64 megapixels")
    raise InputError(f"{name} has more than 8 bits a channel; save it as an 8-bit image")


@contextmanager
def _header(source: str | os.PathLike[str] | BinaryIO) -> Iterator[Image.Image]:
    """An image of which only the header has been read; a path's file is closed at the end."""
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")  # sizes are checked by the caller
        file = source if hasattr(source, "read") else stack.enter_context(open(source, "rb"))
        yield stack.enter_context(Image.open(file, formats=_FORMATS))


def _deep(image: Image.Image) -> bool:
    """Whether it has more than 8 bits a channel, of which Pillow would drop some in silence."""
    return image.mode[0] in "IF" or any(re.search(";16[BLN]", str(tile)) for tile in image.tile)


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode == "P":
        image = image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def tensor(image: Image.Image) -> Tensor:
    """uint8 [C, H, W]."""
    return transforms.pil_to_tensor(image)


def photograph(image: Image.Image, name: str) -> Image.Image:
    """Shorter side 256, centre crop 224, RGB: as torchvision evaluates ResNet-50."""
    width, height = image.size
    scale = 256 / min(width, height)
    if width * height * scale**2 > MAX_PIXELS:
        raise InputError(f"{name} has {width}×{height} pixels, too slim to resize; crop it first")
    return transforms.center_crop(transforms.resize(image.convert("RGB"), [256]), [224])


def header(path: Path) -> tuple[tuple[int, int], bool]:
    """Size as it is seen upright, and whether it is grey, without decoding."""
    try:
        with _header(path) as image:
            lies = False
            with suppress(Exception):  # a tag that cannot be read is told when it is decoded
                lies = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return image.size[:: -1 if lies else 1], image.mode in ("1", "L", "LA")
    except Exception as error:  # as in opened
        raise InputError(f"{path} is no readable image; remove it or save it again") from error
