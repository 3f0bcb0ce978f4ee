"""What the page takes at most, and a clock that ends what takes longer."""

from dataclasses import dataclass
from time import monotonic

from ridefense.errors import RideError, check_positive, check_whole


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of the page's memory and time.

    Attributes:
        upload: bytes of an image file.
        pixels: of an image; a larger one is refused before it is decoded.
        seconds: that one run may take; what is not done by then is left out.
        queue: runs that wait; one computes at a time.
    """

    upload: int = 8_000_000
    pixels: int = 32_000_000
    seconds: float = 60.0
    queue: int = 8

    def __post_init__(self) -> None:
        for name in ("upload", "pixels", "queue"):
            check_whole(name, getattr(self, name), 1)
        check_positive("seconds", self.seconds)


class OutOfTime(RideError):
    """A run has taken as long as it may."""


class Clock:
    """The time that a run has left.

    Args:
        seconds: that it may take from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; negative where it is over."""
        return self._end - monotonic()

    def check(self, done: int = 0, total: int = 0) -> None:
        """End a run whose time is over; fits and attacks take it as their `progress`.

        Raises:
            OutOfTime: where it is over.
        """
        if self.left < 0:
            raise OutOfTime(f"not done within {self.seconds:g} s")
