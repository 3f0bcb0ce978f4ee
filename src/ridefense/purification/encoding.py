"""Pictures as files: in the format that they came in or another, with what the format can keep."""

from collections.abc import Iterable
from io import BytesIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ridefense.errors import InputError

_QUALITY = 95

_OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": _QUALITY, "subsampling": "4:4:4"},
    "WEBP": {"quality": _QUALITY, "exact": True},
    "AVIF": {"quality": _QUALITY},
    "TIFF": {"compression": "tiff_lzw"},
    "PNG": {},
    "BMP": {},
    "GIF": {},
    "PPM": {},
    "JPEG2000": {},
}
"""The formats that are written, and how; lossless where the format is."""

_KEPT = {
    "JPEG": ("exif", "icc_profile", "dpi", "xmp", "comment"),
    "PNG": ("exif", "icc_profile", "dpi"),
    "WEBP": ("exif", "icc_profile", "xmp"),
    "AVIF": ("exif", "icc_profile", "xmp"),
    "TIFF": ("exif", "icc_profile", "dpi"),
    "GIF": ("comment",),
    "JPEG2000": ("comment",),
}
"""The metadata that a format takes, as Pillow calls them."""

_METADATA = {
    "exif": "EXIF data",
    "icc_profile": "colour profile",
    "xmp": "XMP data",
    "comment": "comment",
    "photoshop": "IPTC data",
}
"""What is said of metadata that are lost."""

_TRANSPARENT = ("PNG", "WEBP", "TIFF", "AVIF", "JPEG2000")
"""The formats that take transparency as it is."""


def written_format(read: str) -> str:
    """The format in which an image is written that was read in this one, as Pillow calls both.

    Raises:
        InputError: for a format that is not written.
    """
    found = {"MPO": "JPEG", "DIB": "BMP"}.get(read, read)
    if found not in _OPTIONS or found not in _writable():
        raise InputError(f"format {read} cannot be written here; choose another, as png")
    return found


def encoded(image: Image.Image, format: str) -> tuple[bytes, tuple[str, ...]]:
    """A picture as the bytes of a file, and what the format could not keep, in a few words each.

    Args:
        image: mode L, LA, RGB or RGBA, with its metadata in `image.info`.
        format: of `written_format`.
    """
    notes = []
    if image.mode in ("LA", "RGBA") and format not in _TRANSPARENT:
        image = _on_white(image)
        notes.append("transparency laid on white")
    if format == "JPEG2000" and image.mode == "LA":
        image = image.convert("RGBA")
    options = dict(_OPTIONS[format])
    kept = _KEPT.get(format, ())
    options |= {key: image.info[key] for key in kept if image.info.get(key)}
    lost = [name for key, name in _METADATA.items() if image.info.get(key) and key not in kept]
    texts = {k: v for k, v in image.info.items() if isinstance(k, str) and _is_text(k, v)}
    if format == "PNG":
        options["pnginfo"] = _png_texts(texts)
    elif texts:
        lost.append(f"text ({', '.join(texts)})")
    if format == "TIFF" and "exif" in options:
        options["compression"] = None  # compressed ones cannot hold nested EXIF data
    if lost:
        notes.append(f"without its {_listed(lost)}, which {format} does not keep")
    if format == "GIF" and image.mode == "RGB" and image.getcolors(256) is None:
        notes.append("reduced to the 256 colours of a GIF")
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue(), tuple(notes)


def _writable() -> Iterable[str]:
    Image.init()
    return Image.SAVE


def _is_text(key: str, value: object) -> bool:
    return isinstance(value, str) and key not in (*_METADATA, "compression")


def _png_texts(texts: dict[str, str]) -> PngInfo:
    chunks = PngInfo()
    for key, value in texts.items():
        chunks.add_text(key, value)
    return chunks


def _on_white(image: Image.Image) -> Image.Image:
    info, mode = image.info, "L" if image.mode == "LA" else "RGB"
    below = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(below, image.convert("RGBA")).convert(mode)
    flat.info = info
    return flat


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
