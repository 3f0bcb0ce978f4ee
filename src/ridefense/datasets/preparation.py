"""The one rule by which the images of a data set are brought to one size and made tensors.

1. The size that the caller gives, who takes it from the classifier (`classifiers.sizing`).
2. Else, where all images have one size, that size.
3. Else, where more than half of the images have one size, that size.
4. Else 224×224, as `PHOTOGRAPHS` says.

Images that all have the wanted size already are not resampled.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from ridefense.imagefiles import PHOTOGRAPHS, Header, Sizing, tensor


@dataclass(frozen=True)
class Preparation:
    """How the images of a split become tensors of one shape, and what was left out.

    Attributes:
        sizing: applied to each image; None takes them as they are.
        grey: whether images become one channel; else three. None keeps each image's own.
        size: in words, as "28×28" or "resized to 224×224".
        left_out: files that are no images or cannot be used: how many, by the reason.
        notes: what else a reader of a result should know, each a clause.
    """

    sizing: Sizing | None = None
    grey: bool | None = None
    size: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __call__(self, image: Image.Image, name: str) -> Tensor:
        """An image in mode L or RGB as uint8 [C, H, W]; `name` is what an error calls it."""
        if self.sizing is not None:
            image = self.sizing.apply(image, name)
        if self.grey is not None:
            image = image.convert("L" if self.grey else "RGB")
        return tensor(image)

    def clauses(self) -> str:
        """Size, notes and what was left out, for a line that tells of the data set."""
        told = ", ".join(clause for clause in (self.size, *self.notes) if clause)
        if count := sum(self.left_out.values()):
            reasons = ", ".join(f"{n} {why}" for why, n in sorted(self.left_out.items()))
            told += f"; {counted(count, 'file')} left out: {reasons}"
        return told


def prepare(
    headers: Iterable[Header],
    sizing: Sizing | None = None,
    left_out: Mapping[str, int] | None = None,
    notes: tuple[str, ...] = (),
) -> Preparation:
    """What the rule above makes of these images.

    Args:
        headers: of all images of the split.
        sizing: that the caller gives.
        left_out, notes: for the result.
    """
    headers = list(headers)
    chosen, size = _choose(Counter(header.size for header in headers), sizing)
    seen = Counter(note for header in headers for note in header.notes)
    told = tuple(f"{count} with {note}" for note, count in sorted(seen.items()))
    grey = bool(headers) and all(header.grey for header in headers)
    return Preparation(chosen, grey, size, dict(left_out or {}), (*told, *notes))


def _choose(sizes: Counter[tuple[int, int]], sizing: Sizing | None) -> tuple[Sizing | None, str]:
    """The sizing and its words, for how often each width and height occurs."""
    if not sizes:
        return sizing, ""
    (width, height), count = sizes.most_common(1)[0]
    if len(sizes) == 1 and (sizing is None or sizing.size == (height, width)):
        return None, f"{height}×{width}"
    if sizing is not None:
        return sizing, resized(sizing)
    if 2 * count > sizes.total():
        sizing = Sizing(size=(height, width))
        return sizing, f"{resized(sizing)}, the size of {count} of {sizes.total()}"
    return PHOTOGRAPHS, f"{resized(PHOTOGRAPHS)} because their sizes differ"


def resized(sizing: Sizing) -> str:
    """In words."""
    return "resized to {}×{}".format(*sizing.size)


def counted(count: int, noun: str) -> str:
    """A number and its noun: "1 image", "2 images", "2 classes"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
