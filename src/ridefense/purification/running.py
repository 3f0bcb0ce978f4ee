"""Purifying images of any size: in tiles where they are large, in batches of equal shape."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ridefense.collapse import is_collapsed
from ridefense.defended import Before
from ridefense.engines import Progress, Size
from ridefense.errors import CollapseWarning, InputError
from ridefense.estimators import Estimator
from ridefense.images import check_images
from ridefense.names import OnCollapse
from ridefense.noise import Id
from ridefense.purification.tiles import Canvas, Span
from ridefense.purifier import Purifier, named, purified_by

_PIXELS = 2**19
"""Pixels that are purified at once. A fit takes about 1.4 kB of memory for each."""


@dataclass
class Job:
    """One image to purify, and what became of it.

    Attributes:
        image: float32 [C, H, W] in [0, 1].
        purifier: what purifies it.
        id: of the image; with the seed it decides the randomness.
        tile: side of its tiles; None purifies it as a whole.
        result: the purified image, of the same shape.
        tiles: how many there are.
        collapsed: how many of the tiles lost their contrast or colours.
        refits: how often a fit was repeated.
        engine: of the fits; None where nothing is fitted.
    """

    image: Tensor
    purifier: Purifier
    id: Id
    tile: int | None
    result: Tensor = field(init=False)
    tiles: int = 0
    collapsed: int = 0
    refits: int = 0
    engine: str | None = None

    @property
    def canvas(self) -> Canvas:
        return Canvas(self.image, self.tile)


@dataclass(frozen=True)
class _Part:
    """One tile of a job."""

    job: Job
    canvas: Canvas
    box: tuple[Span, Span]

    @property
    def pixels(self) -> Tensor:
        return self.canvas.cut(self.box)

    @property
    def id(self) -> Id:
        if len(self.canvas) == 1:
            return self.job.id
        row, column = self.box
        return f"{self.job.id}, tile {row.start} {column.start}"


def tile_for(purifier: Purifier, size: Size, tile: int) -> int | None:
    """The side of the tiles in which an image of this size is purified; None as a whole.

    Only purifiers whose results are local are given tiles, see `defended.Before`.
    """
    local = isinstance(purifier, Before) and purifier.is_local
    return tile if local and max(size) > tile else None


def run(
    jobs: Sequence[Job],
    *,
    seed: int,
    on_collapse: OnCollapse,
    progress: Progress | None = None,
) -> None:
    """Purify the images of jobs, and note in each what became of it.

    A result depends on the image, its id, the seed and the purifier alone.

    Args:
        jobs: images of any size and purifiers.
        seed: 0 ≤ seed < 2¹²⁸.
        on_collapse: what becomes of a tile that lost its contrast or colours: "keep" keeps the
            estimate and "input" takes the tile as it was. With "raise" the caller raises an error.
        progress: called with the steps done and their total: of a fit its gradient steps, of any
            other purifier one a tile.

    Raises:
        InputError: for images that a purifier does not take, and for results that are no images.
    """
    canvases = [job.canvas for job in jobs]
    parts = [
        _Part(job, canvas, box)
        for job, canvas in zip(jobs, canvases, strict=True)
        for box in canvas.boxes()
    ]
    for job, canvas in zip(jobs, canvases, strict=True):
        job.tiles = len(canvas)
    counter = _Counter([_steps(part.job.purifier) for part in parts], progress)
    for batch in _batches(parts):
        purifier = batch[0].job.purifier
        images = torch.stack([part.pixels for part in batch])
        steps = _steps(purifier) * len(batch)
        value, lost = _purified(purifier, images, batch, seed, counter.within(steps))
        if on_collapse == "input":
            value = torch.where(lost.view(-1, 1, 1, 1), images, value)
        for part, result, is_lost in zip(batch, value, lost.tolist(), strict=True):
            part.canvas.put(part.box, result)
            part.job.collapsed += is_lost
        counter.add(steps)
    for job, canvas in zip(jobs, canvases, strict=True):
        job.result = canvas.whole()
        if len(canvas) > 1 and bool(is_collapsed(job.image[None], job.result[None])):
            job.collapsed = len(canvas)
            if on_collapse == "input":
                job.result = job.image.clone()


def _purified(
    purifier: Purifier,
    images: Tensor,
    batch: Sequence[_Part],
    seed: int,
    progress: Progress | None,
) -> tuple[Tensor, Tensor]:
    """Purified images [N, C, H, W] of a batch, and which collapsed, bool [N].

    The jobs are told of refits and the engine.
    """
    ids = [part.id for part in batch]
    if isinstance(purifier, Estimator):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)  # the caller tells of all at once
            found = purifier.estimate(images, ids=ids, seed=seed, progress=progress)
        for part, attempts in zip(batch, found.attempts.tolist(), strict=True):
            part.job.refits += attempts
            part.job.engine = found.engine
        return found.value, found.collapsed
    value = purified_by(purifier, images, ids, seed).detach()
    try:
        check_images(value)
    except InputError as error:
        raise InputError(
            f"purifier {named(purifier)} returned no images: {error}; let it return pixels in "
            "[0, 1]"
        ) from error
    return value, is_collapsed(images, value)


def _batches(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    """Parts of one purifier and one shape, as many as may be purified at once."""
    groups: dict[object, list[_Part]] = {}
    for part in parts:
        key = id(part.job.purifier), tuple(part.pixels.shape), part.pixels.device
        groups.setdefault(key, []).append(part)
    for group in groups.values():
        _, height, width = group[0].pixels.shape
        count = max(1, _PIXELS // (height * width))
        for start in range(0, len(group), count):
            yield group[start : start + count]


def _steps(purifier: Purifier) -> int:
    """What one image counts for in the progress."""
    return purifier.total_steps if isinstance(purifier, Estimator) else 1


class _Counter:
    """Tells the progress of all images; what is fitted again does not take it back."""

    def __init__(self, steps: Sequence[int], progress: Progress | None) -> None:
        self._progress, self._total = progress, sum(steps)
        self._done = self._told = 0

    def add(self, steps: int) -> None:
        """So many steps are finished."""
        self._done += steps
        self._tell(self._done)

    def within(self, steps: int) -> Progress | None:
        """Tells the progress of the next so many steps."""
        if self._progress is None:
            return None
        return lambda done, total: self._tell(self._done + done * steps // total)

    def _tell(self, done: int) -> None:
        if self._progress is not None and done > self._told:
            self._told = done
            self._progress(done, self._total)


def careful(estimator: Estimator) -> Estimator:
    """An estimator that fits again all that collapsed, not only what became constant."""
    return replace(estimator, refit_when="collapsed", on_collapse="keep")
