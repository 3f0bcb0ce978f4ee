"""Image files: what counts as one, how it is decoded, and how one is written.

`header` and `opened` are the only places that decide whether something is an image that can be
used. They go by content, whatever the file is called.
"""

import mimetypes
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO, Literal

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from torch import Tensor

from ridefense.errors import InputError
from ridefense.files import write_atomically

MAX_PIXELS = 64_000_000
"""Larger images are refused before they are decoded."""

# Formats whose decoders run no interpreter (EPS starts Ghostscript) and read no other file.
_READ = ("PNG", "JPEG", "MPO", "BMP", "DIB", "PPM", "TIFF", "WEBP", "GIF", "JPEG2000", "AVIF")
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Source = str | os.PathLike[str] | IO[bytes]


@dataclass(frozen=True)
class Header:
    """What is known of an image before it is decoded.

    Attributes:
        size: width and height as it is seen upright, in pixels.
        grey: whether it has one channel, apart from transparency.
        unfit: why it cannot be used; None where it can.
        notes: what is not kept of it.
    """

    size: tuple[int, int]
    grey: bool
    unfit: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Sizing:
    """How images are brought to one size: resized, then cropped at the centre.

    Attributes:
        size: height and width of the result, in pixels.
        resize: length of the shorter side before the crop, or height and width; None for the least
            that covers `size`.
        interpolation: Pillow's filter of that name.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        sides = self.size if isinstance(self.size, tuple) else (self.size,)
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise InputError(f"size is {self.size!r}; use height and width, whole numbers from 1")

    def apply(self, image: Image.Image, name: str) -> Image.Image:
        """The image at this size; `name` is what an error calls it.

        Raises:
            InputError: where it is so slim that resizing it would exceed `MAX_PIXELS`.
        """
        width, height = image.size
        rows, columns = self.size
        if self.resize is None:
            scale = max(rows / height, columns / width)
            target = (max(columns, round(width * scale)), max(rows, round(height * scale)))
        elif isinstance(self.resize, int):
            # As torchvision rounds: the longer side down.
            short, long = min(width, height), max(width, height)
            other = int(self.resize * long / short)
            target = (self.resize, other) if width <= height else (other, self.resize)
        else:
            target = self.resize[::-1]
        if target[0] * target[1] > MAX_PIXELS:
            raise InputError(f"{name} has {width}×{height} pixels, too slim to resize; crop it")
        if target != image.size:
            image = image.resize(target, Image.Resampling[self.interpolation.upper()])
        return _centre(image, rows, columns)


PHOTOGRAPHS = Sizing(size=(224, 224), resize=256)
"""Shorter side 256, centre crop 224: as torchvision evaluates ResNet-50."""


def load_image(path: str | os.PathLike[str]) -> Tensor:
    """An image file as float32 [C, H, W] in [0, 1]; C is 1 for a grey image, else 3.

    The EXIF orientation is applied, transparent pixels are laid on white, and of an animation the
    first frame is taken.

    Raises:
        InputError: for a file that is missing, corrupt, no image, of more than 8 bits a channel,
            or of more than 64 megapixels.
    """
    return tensor(opened(path, str(path))).float() / 255


def save_image(image: Tensor, path: str | os.PathLike[str]) -> None:
    """Write a float image [C, H, W] in [0, 1], C 1 or 3, as an 8-bit PNG.

    Each value becomes the nearest of the 256 levels, round(255·x), halves to the even level.

    Raises:
        InputError: for another shape or range, or another suffix than .png.
        RideError: if the file cannot be written.
    """
    from torchvision.transforms.functional import to_pil_image

    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise InputError(f"image has shape {tuple(image.shape)}; pass [1, H, W] or [3, H, W]")
    image = image.detach().cpu()
    if not bool(((image >= 0) & (image <= 1)).all()):
        raise InputError("image has values outside [0, 1] or NaN; clamp it before saving")
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path} does not end in .png; images are written as PNG, without loss")
    levels = (image.float() * 255).round().byte()
    encoded = BytesIO()
    to_pil_image(levels).save(encoded, format="PNG")
    write_atomically(path, encoded.getvalue())


@dataclass(frozen=True)
class Decoded:
    """A file's image, decoded and upright, in its own mode.

    Attributes:
        image: with the file's metadata in `image.info`, the orientation in its EXIF data reset.
        format: Pillow's name of the file's format, as "JPEG".
        frames: of an animation or a file of several pages; `image` is the first.
    """

    image: Image.Image
    format: str
    frames: int


def opened(source: Source, name: str) -> Image.Image:
    """A decoded image in mode L or RGB, upright; `name` is what an error calls it.

    Raises:
        InputError: as `load_image`.
    """
    return _eight_bit(decoded(source, name).image)


def decoded(source: Source, name: str) -> Decoded:
    """A file's image in its own mode, upright; `name` is what an error calls it.

    Raises:
        InputError: as `load_image`.
    """
    if isinstance(source, str | os.PathLike) and not Path(source).is_file():
        raise InputError(f"{name} is no file; pass the path of an image")
    try:
        with _undecoded(source) as image:
            unfit = _unfit(image)
            if unfit is None:
                frames = getattr(image, "n_frames", 1)
                image.load()
                if image.format == "TIFF" and (told := _told_by_tiff(image)):
                    image.info["exif"] = told
                return Decoded(_upright(image), image.format or "", frames)
    except Image.DecompressionBombError:
        unfit = _TOO_LARGE
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        raise InputError(f"{name} cannot be read as an image ({_reason(error)})") from error
    raise InputError(f"{name} has {unfit}; {_REMEDIES[unfit]}")


def header(source: Source, name: str) -> Header:
    """What is known of an image without decoding it; `name` is what an error calls it.

    Raises:
        InputError: where it is no image in a format that is read.
    """
    try:
        with _undecoded(source) as image:
            size = image.size
            # Pillow gives a TIFF's size upright already.
            if image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8):
                size = size[::-1]
            notes = []
            if image.has_transparency_data:
                notes.append("transparency laid on white")
            if getattr(image, "is_animated", False) and image.format != "MPO":
                notes.append("first frame of several")
            grey = image.mode in ("1", "L", "LA", "La")
            return Header(size, grey, _unfit(image), tuple(notes))
    except Image.DecompressionBombError:
        return Header((0, 0), False, _TOO_LARGE, ())
    except Exception as error:  # as in opened
        raise InputError(f"{name} cannot be read as an image ({_reason(error)})") from error


def load_pixels(image: Image.Image, name: str) -> None:
    """Decode an image that was opened; `name` is what an error calls it.

    Raises:
        InputError: where it is damaged.
    """
    try:
        image.load()
    except Exception as error:  # as in decoded
        raise InputError(f"{name} cannot be read as an image ({_reason(error)})") from error


def tensor(image: Image.Image) -> Tensor:
    """uint8 [C, H, W]."""
    from torchvision.transforms.functional import pil_to_tensor

    found: Tensor = pil_to_tensor(image)
    return found


def named_as_image(path: Path) -> bool:
    """Whether a file's name says that it is an image, of whatever format."""
    kind, _ = mimetypes.guess_type(path.name.lower())
    return (kind or "").startswith("image/") or path.suffix.lower() in Image.registered_extensions()


def readable_suffixes() -> frozenset[str]:
    """The suffixes of the formats that are read, in lower case."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, format in known.items() if format in _formats())


def looks_like_image(path: Path) -> bool:
    """Whether a file's content is in one of the formats that are read."""
    try:
        with _undecoded(path):
            return True
    except Exception:  # as in opened
        return False


# --- Decoding ------------------------------------------------------------------------------------

_DEEP = "more than 8 bits a channel"
_TOO_LARGE = "more than 64 megapixels"
_REMEDIES = {_DEEP: "convert it to 8 bits a channel", _TOO_LARGE: "shrink it"}


@cache
def _formats() -> tuple[str, ...]:
    """The formats that are read and that this Pillow has."""
    Image.init()
    return tuple(format for format in _READ if format in Image.OPEN)


@contextmanager
def _undecoded(source: Source) -> Iterator[Image.Image]:
    """An image of which only the header has been read; a path's file is closed at the end."""
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")  # sizes are checked by the caller
        if isinstance(source, str | os.PathLike):
            source = stack.enter_context(open(source, "rb"))
        yield stack.enter_context(Image.open(source, formats=_formats()))


def _unfit(image: Image.Image) -> str | None:
    """Why an image that has been opened cannot be used; None where it can."""
    if image.width * image.height > MAX_PIXELS:
        return _TOO_LARGE
    return _DEEP if _deep(image) else None


def _deep(image: Image.Image) -> bool:
    """Whether it has more than 8 bits a channel, of which Pillow would drop some in silence."""
    if image.mode[0] in "IF":
        return True
    if not isinstance(image, ImageFile):
        return False
    if image.format == "JPEG2000" and image.fp is not None:
        return _jpeg2000_bits(image.fp) > 8
    tiles = [(tile[0], tile[3]) for tile in image.tile or []]
    # A PPM's arguments are its mode and its largest value.
    return any(
        ";16" in str(arguments)
        or (decoder in ("ppm", "ppm_plain") and isinstance(arguments, tuple) and arguments[1] > 255)
        for decoder, arguments in tiles
    )


def _jpeg2000_bits(file: IO[bytes]) -> int:
    """Bits a channel: of the box ihdr, or of the codestream's marker SIZ; 8 where it says none."""
    place = file.tell()
    file.seek(0)
    start = file.read(256)
    file.seek(place)
    if (at := start.find(b"ihdr")) >= 0 and len(start) > at + 14:
        return 8 if start[at + 14] == 255 else (start[at + 14] & 127) + 1
    if (at := start.find(b"\xff\x51")) >= 0 and len(start) > at + 40:
        return (start[at + 40] & 127) + 1
    return 8


def _orientation(image: Image.Image) -> int:
    """The EXIF tag's value; 1, which is upright, where there is none that can be read."""
    with suppress(Exception):
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        return found if isinstance(found, int) else 1
    return 1


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says, which is removed from its metadata."""
    if _orientation(image) not in range(2, 9):
        return image
    return ImageOps.exif_transpose(image)


def _told_by_tiff(image: Image.Image) -> bytes | None:
    """What a TIFF says of itself as EXIF data, without how its pixels are stored."""
    told, found = image.getexif(), Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in told:
            found[tag] = told[tag]
    for group in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if inside := told.get_ifd(group):
            found[group] = inside
    return found.tobytes() if len(found) else None


_DESCRIPTIVE = (270, 271, 272, 305, 306, 315, 33432)
"""Tags of a TIFF: description, maker, model, software, date, artist, copyright."""


def _eight_bit(image: Image.Image) -> Image.Image:
    """Mode L or RGB; what is transparent is laid on white."""
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _centre(image: Image.Image, rows: int, columns: int) -> Image.Image:
    """The centre of an image, as torchvision crops it; black where the image is smaller."""
    left, top = (round((a - b) / 2) for a, b in zip(image.size, (columns, rows), strict=True))
    return image.crop((left, top, left + columns, top + rows))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its message is an object's address
        return "in no format that is read"
    return " ".join(str(error).split()) or type(error).__name__
