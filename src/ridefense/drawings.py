"""Images drawn at random, from which denoisers learn without any image of a data set."""

import math

import torch
from torch import Tensor

_STROKES = (1.0, 0.75, 0.5, 0.3)  # the chance that an image has the first stroke, the second, …
_POINTS = 24  # of a stroke's curve
_LEAVES = 64
_RADII = (2.0, 32.0)  # of leaves, in pixels


def strokes(count: int, random: torch.Generator, side: int = 28) -> Tensor:
    """Handwriting of one to four strokes, float32 [count, 1, side, side] in [0, 1].

    Strokes are cubic Bézier curves of random place, bend, width and ink.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=random)

    t = torch.linspace(0, 1, _POINTS)[:, None]
    bernstein = torch.cat(
        ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3), dim=1
    )  # [points, 4]
    pixels = _grid(side)
    half_width, ink = 0.8 + uniform(1), 0.8 + 0.4 * uniform(1)
    image, last = torch.zeros(count, side * side), None
    for chance in _STROKES:
        drawn = uniform(1) < chance
        start = 4 + (side - 8) * uniform(2)
        if last is not None:
            start = torch.where(uniform(1) < 0.6, last, start)  # where the stroke before ended
        end = torch.where(uniform(1) < 0.2, start, 4 + (side - 8) * uniform(2))  # at times a loop
        bend = torch.where(uniform(1) < 0.5, 10.0, 4.0)[..., None]
        inner = [
            start + (end - start) * share + bend[:, 0] * torch.randn(count, 2, generator=random)
            for share in (1 / 3, 2 / 3)
        ]
        control = torch.stack((start, *inner, end), dim=1).clamp(3, side - 4)  # [count, 4, 2]
        curve = torch.einsum("tk,nkd->ntd", bernstein, control)
        distance = torch.cdist(pixels.expand(count, -1, -1), curve).amin(dim=2)
        stroke = ink * torch.sigmoid(3 * (half_width - distance))
        image = torch.maximum(image, stroke * drawn)
        last = end
    return image.clamp(0, 1).view(count, 1, side, side)


def leaves(count: int, random: torch.Generator, side: int = 32) -> Tensor:
    """Dead leaves (Lee et al. 2001), float32 [count, 3, side, side] in [0, 1].

    Ellipses cover each other, with areas such that no scale is preferred, as in photographs. Each
    has a colour with a gradient across it; colours differ more in light than in hue. The whole is
    shaded.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=random)

    def colours() -> Tensor:
        light = torch.randn(count, 1, 1, generator=random)
        return base + spread * (light + 0.4 * torch.randn(count, 1, 3, generator=random))

    pixels = _grid(side)  # [P, 2]
    spread = 0.05 + 0.3 * uniform(1, 1)
    base = 0.25 + 0.5 * uniform(1, 1) + 0.1 * torch.randn(count, 1, 3, generator=random)
    image = colours().expand(-1, side**2, -1)
    low, high = _RADII
    for _ in range(_LEAVES):
        # The inverse of the distribution function of a density that falls as r⁻³.
        radius = (low**-2 - uniform(1) * (low**-2 - high**-2)) ** -0.5
        angle, stretch = math.pi * uniform(1), 0.5 + uniform(1)
        offset = pixels - side * (1.4 * uniform(1, 2) - 0.2)
        along = offset[..., 0] * angle.cos() + offset[..., 1] * angle.sin()
        across = offset[..., 1] * angle.cos() - offset[..., 0] * angle.sin()
        distance = ((along / stretch) ** 2 + (across * stretch) ** 2).sqrt()
        cover = torch.sigmoid(4 * (radius - distance))[..., None]  # [count, P, 1]
        slope = 0.3 * spread * torch.randn(count, 1, 1, generator=random)
        colour = colours() + slope * (along / radius)[..., None].clamp(-1, 1)
        image = image + cover * (colour - image)
    shade = 1 + 0.3 * (pixels / side - 0.5) @ torch.randn(count, 2, 1, generator=random)
    image = (image * shade).clamp(0, 1)
    return image.transpose(1, 2).reshape(count, 3, side, side).contiguous()


def _grid(side: int) -> Tensor:
    """The places of all pixels, row by row, [side², 2]."""
    place = torch.arange(side, dtype=torch.float32)
    return torch.cartesian_prod(place, place)
