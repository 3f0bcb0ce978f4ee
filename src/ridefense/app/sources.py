"""Where the page's images come from. None of them is kept on a disk."""

import base64
import binascii
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path

from PIL import Image

from ridefense.app.limits import Limits
from ridefense.errors import InputError
from ridefense.imagefiles import header, opened

_PREFIX = "data:image/png;base64,"
_LARGEST = 512  # pixels a side of an image that is held in memory
_PHOTOGRAPHS = {"cat": "chelsea.png", "astronaut": "astronaut.png", "coffee": "coffee.png"}


def uploaded(path: str, limits: Limits) -> Image.Image:
    """The image of an uploaded file, in mode L or RGB; the file is deleted, whatever it is.

    Raises:
        InputError: for a file that is too large, no image, or one that cannot be decoded.
    """
    file = Path(path)
    try:
        if file.stat().st_size > limits.upload:
            raise InputError(f"the file is larger than {limits.upload:,} bytes; choose another")
        content = file.read_bytes()
    finally:
        file.unlink(missing_ok=True)
    return _decoded(content, limits)


def drawing(url: str, limits: Limits) -> Image.Image:
    """The image of a canvas's data URL, white on black.

    Raises:
        InputError: where nothing is drawn, and for what is no such URL.
    """
    if not url:
        raise InputError("nothing is drawn; draw a digit, or choose another source")
    try:
        if not url.startswith(_PREFIX) or len(url) > 2 * limits.upload:
            raise ValueError
        content = base64.b64decode(url.removeprefix(_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise InputError("the drawing is no PNG; draw it anew") from None
    image = _decoded(content, limits).convert("L")
    if image.getbbox() is None:
        raise InputError("nothing is drawn; draw a digit, or choose another source")
    return image


@cache
def examples() -> Mapping[str, Image.Image]:
    """Photographs that scikit-image brings, by what they show."""
    folder = files("skimage") / "data"
    found = {}
    for name, file in _PHOTOGRAPHS.items():
        if (folder / file).is_file():
            found[name] = opened(BytesIO((folder / file).read_bytes()), name)
    return found


def _decoded(content: bytes, limits: Limits) -> Image.Image:
    name = "the image"
    width, height = header(BytesIO(content), name).size
    if not 0 < width * height <= limits.pixels:  # 0 where Pillow refuses to tell
        raise InputError(f"{name} has more than {limits.pixels:,} pixels; shrink it")
    image = opened(BytesIO(content), name)
    image.thumbnail((_LARGEST, _LARGEST))
    return image
