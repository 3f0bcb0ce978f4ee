"""Large images as tiles that overlap, and their results as one image again.

The outermost `MARGIN` pixels of a tile are thrown away, except at the image's own border, since a
purifier knows nothing of what lies beyond them. What is left of an overlap is blended linearly. So
a filter that looks no further than `MARGIN` pixels gives the same image with tiles as without.
Tiles begin at multiples of `GRID`, so that JPEG's blocks stay where they were.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ridefense.errors import InputError

TILE = 256
"""Side of a tile in pixels: near the 224 at which the presets' schedules were chosen."""

GRID, MARGIN, OVERLAP = 16, 16, 64
"""Pixels: what a tile's place is a multiple of, what is thrown away, and the least overlap."""

LEAST = 2 * OVERLAP
"""The smallest tile."""


def check_tile(tile: object) -> None:
    """Refuse a side that tiles cannot have.

    Raises:
        InputError: that names it.
    """
    if not isinstance(tile, int) or tile < LEAST or tile % GRID:
        raise InputError(f"tile is {tile!r}; use a multiple of {GRID}, at least {LEAST}")


@dataclass(frozen=True)
class Span:
    """A tile's place along one axis: from `start`, of `size` pixels, in an axis of `whole`."""

    start: int
    size: int
    whole: int

    @property
    def slice(self) -> slice:
        return slice(self.start, self.start + self.size)

    @property
    def weights(self) -> Tensor:
        """How much each pixel counts where tiles overlap, float32 [size]."""
        place = torch.arange(self.size, dtype=torch.float32)
        ramp = OVERLAP - 2 * MARGIN
        low = torch.ones(self.size) if not self.start else (place - MARGIN + 0.5) / ramp
        at_end = self.start + self.size == self.whole
        high = torch.ones(self.size) if at_end else (self.size - MARGIN - 0.5 - place) / ramp
        return low.clamp(0, 1) * high.clamp(0, 1)


def spans(whole: int, tile: int) -> list[Span]:
    """Tiles of one axis: of `tile` pixels, the last one of up to `GRID` - 1 more."""
    if whole < tile + GRID:
        return [Span(0, whole, whole)]
    last = (whole - tile) // GRID * GRID
    starts = [*range(0, last, tile - OVERLAP), last]
    return [Span(a, whole - a if a == last else tile, whole) for a in starts]


def sizes(whole: tuple[int, int], tile: int | None) -> list[tuple[int, int]]:
    """Height and width of each tile of an image of this size; without `tile` it is one."""
    height, width = whole
    rows, columns = spans(height, tile or height), spans(width, tile or width)
    return [(row.size, column.size) for row in rows for column in columns]


class Canvas:
    """An image that is put together again from the results of its tiles.

    Args:
        image: [C, H, W]; its shape, dtype and device are those of the result.
        tile: side of the tiles; None for the image as one.
    """

    def __init__(self, image: Tensor, tile: int | None) -> None:
        self.image = image
        height, width = image.shape[-2:]
        self._rows = spans(height, tile or height)
        self._columns = spans(width, tile or width)

    @cached_property
    def _sum(self) -> Tensor:
        """Results so far, weighted."""
        return torch.zeros_like(self.image)

    def __len__(self) -> int:
        return len(self._rows) * len(self._columns)

    def boxes(self) -> Iterator[tuple[Span, Span]]:
        """Rows and columns of each tile."""
        for row in self._rows:
            for column in self._columns:
                yield row, column

    def cut(self, box: tuple[Span, Span]) -> Tensor:
        """The tile at this place, [C, h, w]: a view of the image."""
        row, column = box
        return self.image[:, row.slice, column.slice]

    def put(self, box: tuple[Span, Span], result: Tensor) -> None:
        """The result of a tile; each is put once."""
        row, column = box
        weights = [span.weights.to(result) for span in box]
        part = result * weights[0][:, None] * weights[1]
        self._sum[:, row.slice, column.slice] += part

    def whole(self) -> Tensor:
        """The image, once every tile was put."""
        rows, columns = (_summed(axis).to(self.image) for axis in (self._rows, self._columns))
        return self._sum.div_(rows[:, None]).div_(columns).clamp_(0, 1)


def _summed(axis: list[Span]) -> Tensor:
    total = torch.zeros(axis[0].whole)
    for span in axis:
        total[span.slice] += span.weights
    return total
