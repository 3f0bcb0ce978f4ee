"""Images of a run as the pictures of a gallery's cards."""

from io import BytesIO

import torch
from torch import Tensor

_LARGEST = 112  # pixels a side of a picture on a page; larger images are shrunk
_SMALL = 64  # up to here a picture loses nothing


def as_webp(image: Tensor) -> bytes:
    """A small WebP of an image [C, H, W] in [0, 1], C 1 or 3; what is not a number is black."""
    from PIL import Image

    levels = (image.detach().float().nan_to_num(0).clamp(0, 1) * 255).round().byte().cpu()
    pixels = levels[0] if len(levels) == 1 else levels.permute(1, 2, 0)
    picture = Image.fromarray(pixels.contiguous().numpy())
    picture.thumbnail((_LARGEST, _LARGEST))
    file = BytesIO()
    picture.save(file, format="WEBP", lossless=max(picture.size) <= _SMALL, quality=82)
    return file.getvalue()


def magnification(clean: list[Tensor], attacked: list[Tensor]) -> float:
    """By how much perturbations are multiplied so that the largest spans grey to black or white.

    It is rounded to two significant digits, so that the page states the exact factor; at least 1.
    """
    pairs = zip(clean, attacked, strict=True)
    largest = max((_largest(one, other) for one, other in pairs), default=0.0)
    return max(1.0, float(f"{0.5 / largest:.2g}")) if largest > 0 else 1.0


def perturbation(clean: Tensor, attacked: Tensor, scale: float) -> Tensor:
    """The difference of two images [C, H, W], multiplied, around a grey of 0.5."""
    return ((attacked - clean) * scale + 0.5).nan_to_num(0.5).clamp(0, 1)


def _largest(clean: Tensor, attacked: Tensor) -> float:
    return float(torch.nan_to_num((attacked - clean).abs(), 0.0).max())
