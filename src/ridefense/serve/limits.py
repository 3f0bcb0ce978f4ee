"""What a service takes at most."""

from dataclasses import dataclass

from ridefense.errors import check_positive, check_whole
from ridefense.imagefiles import MAX_PIXELS


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of a service's memory and time.

    Attributes:
        requests: accepted and not yet answered; the next one is refused with status 429. Together
            they hold at most `requests` × `upload` bytes of uploads.
        batch: images computed together.
        fill: seconds that an incomplete batch waits for more images.
        timeout: seconds from the arrival of a request to its answer; then status 504, or 408 where
            the upload itself has not arrived.
        upload: bytes of an image file; a larger one is refused with status 413.
        pixels: of an image; a larger one is refused with status 413 before it is decoded.
    """

    requests: int = 64
    batch: int = 8
    fill: float = 0.005
    timeout: float = 30.0
    upload: int = 8_000_000
    pixels: int = 16_000_000

    def __post_init__(self) -> None:
        for name in ("requests", "batch", "upload", "pixels"):
            check_whole(name, getattr(self, name), 1)
        check_positive("timeout", self.timeout)
        check_positive("fill", self.fill)
        object.__setattr__(self, "pixels", min(self.pixels, MAX_PIXELS))
