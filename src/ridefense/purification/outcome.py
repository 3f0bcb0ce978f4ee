"""What a purification did, image by image."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ridefense.results.frames import Tabular


@dataclass(frozen=True)
class ImageOutcome:
    """What became of one image.

    Attributes:
        purifier: its name.
        height, width, channels: of the image, in pixels.
        tiles: how many it was purified in.
        collapsed: how many of the tiles lost their contrast or colours, after all refits.
        refits: how often a fit was repeated because its estimate had collapsed.
        engine: of the fits; "" for a purifier that fits nothing.
        seconds: wall time of the call that purified it, with all images of that call.
    """

    purifier: str
    height: int
    width: int
    channels: int
    tiles: int
    collapsed: int
    refits: int
    engine: str
    seconds: float


@dataclass(frozen=True)
class Outcome(Tabular):
    """Purified images, and what became of each.

    Attributes:
        value: what `purify` returns.
        images: one for each image, also of a batch.
    """

    value: Any
    images: Sequence[ImageOutcome]

    @property
    def collapsed(self) -> list[bool]:
        """Which images lost contrast or colours, in a tile at least."""
        return [image.collapsed > 0 for image in self.images]

    def records(self) -> list[dict[str, Any]]:
        """A flat record for each image."""
        return [asdict(image) for image in self.images]
