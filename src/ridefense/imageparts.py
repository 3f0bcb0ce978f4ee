"""A picture taken apart into what is purified, its colours, and what is kept beside them."""

from dataclasses import dataclass, replace
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor

from ridefense.errors import InputError
from ridefense.imagefiles import load_pixels

_CONVERTED = {"1": "L", "La": "LA", "RGBa": "RGBA", "YCbCr": "RGB", "CMYK": "RGB"}
"""Modes that are purified in another one."""

_STALE = ("transparency", "background")
"""Metadata of palettes that are gone."""


@dataclass(frozen=True)
class Parts:
    """A picture as colours and what accompanies them.

    Attributes:
        colours: mode L or RGB.
        alpha: its transparency, mode L; None without.
        info: its metadata, as Pillow has them.
        notes: what could not be kept, in a few words each.
    """

    colours: Image.Image
    alpha: Image.Image | None
    info: dict[str | tuple[int, int], object]
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> Tensor:
        """The colours, uint8 [C, H, W]."""
        levels = torch.from_numpy(np.array(self.colours))
        return levels[None] if levels.ndim == 2 else levels.movedim(-1, 0).contiguous()

    def within(self, max_side: int | None) -> "Parts":
        """The picture, made smaller where a side is longer than so many pixels."""
        longer = max(self.colours.size)
        if max_side is None or longer <= max_side:
            return self
        width, height = (max(1, round(side * max_side / longer)) for side in self.colours.size)
        filter_ = Image.Resampling.LANCZOS
        alpha = None if self.alpha is None else self.alpha.resize((width, height), filter_)
        return replace(self, colours=self.colours.resize((width, height), filter_), alpha=alpha)

    def joined(self, levels: Tensor) -> Image.Image:
        """The picture with other colours, uint8 [C, H, W]: mode L, LA, RGB or RGBA."""
        array = levels.cpu().movedim(0, -1).contiguous().numpy()
        image = Image.fromarray(array[..., 0] if len(levels) == 1 else array)
        if self.alpha is not None:
            image.putalpha(self.alpha)
        image.info = dict(self.info)
        return image


def split(image: Image.Image, name: str) -> Parts:
    """A picture's colours, transparency and metadata; of an animation those of its present frame.

    Grey is purified as one channel, everything else as red, green and blue: a palette as its
    colours, CMYK through its colour profile if it has one.

    Args:
        image: of any mode of at most 8 bits a channel.
        name: what an error calls it.

    Raises:
        InputError: for a damaged image, and for a mode that loses depth when it is converted.
    """
    load_pixels(image, name)
    mode = image.mode
    if mode[0] in "IF":
        raise InputError(
            f"{name} has more than 8 bits a channel (mode {mode}); convert it to 8 bits a channel, "
            "or pass an array of floats in [0, 1]"
        )
    info = {key: value for key, value in image.info.items() if key not in _STALE}
    notes: tuple[str, ...] = ()
    if mode == "CMYK":
        image, through = _from_cmyk(image)
        info.pop("icc_profile", None)
        notes = (f"CMYK is converted to {through}",)
    elif image.has_transparency_data:
        image = image.convert("LA" if mode in ("L", "LA", "La", "1") else "RGBA")
    elif mode in ("P", "PA"):
        image = image.convert("RGB")
    elif mode in _CONVERTED:
        image = image.convert(_CONVERTED[mode])
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise InputError(f"{name} has mode {mode}; convert it, as image.convert('RGB')")
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colour: Literal["L", "RGB"] = "L" if image.mode in ("L", "LA") else "RGB"
    return Parts(_without_alpha(image, colour), alpha, info, notes)


def _without_alpha(image: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    """The colours as they are, also below transparent pixels."""
    if image.mode == mode:
        return image
    return image.getchannel("L") if mode == "L" else image.convert("RGB")


def _from_cmyk(image: Image.Image) -> tuple[Image.Image, str]:
    """An image in CMYK as RGB, and how it was converted."""
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes):
        try:
            converted = ImageCms.profileToProfile(
                image, BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            converted = None  # a damaged profile
        if converted is not None:
            return converted, "sRGB by its colour profile"
    return image.convert("RGB"), "RGB without a colour profile"
