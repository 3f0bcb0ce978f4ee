"""The one call: images of any kind in, purified images of the same kind out."""

import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Self, TypedDict, TypeVar, Unpack, get_args, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ridefense import purifiers
from ridefense.defended import as_purifier
from ridefense.engines import Progress, image_size
from ridefense.errors import CollapseError, CollapseWarning, InputError, unknown
from ridefense.estimators import Estimator, Preset
from ridefense.long_fits import Fit, warn_if_long
from ridefense.names import EngineName, NetworkName, OnCollapse
from ridefense.networks import name_for
from ridefense.noise import check_seed
from ridefense.progress import terminal_bar
from ridefense.purification.kinds import (
    FilePath,
    Given,
    given,
    is_other_vision,
    is_vision_image,
)
from ridefense.purification.layouts import Layout, check_layout
from ridefense.purification.outcome import ImageOutcome, Outcome
from ridefense.purification.running import Job, careful, run, tile_for
from ridefense.purification.tiles import TILE, check_tile, sizes
from ridefense.purifier import Call, Purifier, named

X = TypeVar("X", Tensor, "np.ndarray[Any, Any]", Image.Image)

_SOON = 1.0  # seconds before a bar is shown


class Purify(nn.Module):
    """`purify` with its settings: a module, and a transform of torchvision's `transforms.v2`.

    It goes into `torch.nn.Sequential` and into `v2.Compose`. It has no parameters, and `train` and
    `eval` change nothing. As a transform it takes a sample as torchvision's own do, a tuple, a dict
    or several arguments: images of PIL and `tv_tensors` are purified, everything else is passed
    through; in a sample without them the first tensor is the image.

    It is a preprocessing step. Gradients do not pass through it; attack a `Defended`.

    It takes the settings of `purify`.

    Raises:
        InputError: for settings that do not exist or do not go together.
    """

    def __init__(
        self,
        purifier: str | Purifier | Call = "ride",
        preset: FilePath | None = None,
        seed: int = 0,
        *,
        network: NetworkName | None = None,
        engine: EngineName = "auto",
        tile: int = TILE,
        on_collapse: OnCollapse = "keep",
        layout: Layout | None = None,
        progress: Progress | bool | None = None,
    ) -> None:
        super().__init__()
        check_tile(tile)
        if on_collapse not in get_args(OnCollapse):
            raise InputError(
                f"on_collapse is {on_collapse!r}; use one of {', '.join(get_args(OnCollapse))}"
            )
        if engine not in get_args(EngineName):
            raise unknown("engine", engine, get_args(EngineName))
        if layout is not None:
            check_layout(layout)
        self.preset, self.seed = preset, check_seed(seed)
        self.network, self.engine = network, engine
        self.tile, self.on_collapse = tile, on_collapse
        self.layout, self.progress = layout, progress
        self.purifier: str | Purifier = self._checked(purifier)

    def forward(self, *inputs: Any) -> Any:
        """What `purify` returns for an image or a list of them; of a sample, the sample."""
        if len(inputs) == 1 and not isinstance(inputs[0], tuple | dict):
            return self.outcome(inputs[0]).value
        sample: Any = inputs[0] if len(inputs) == 1 else inputs
        leaves = list(_leaves(sample))
        images: list[Any] = [x for x in leaves if isinstance(x, Image.Image) or is_vision_image(x)]
        if not images:
            images = [x for x in leaves if type(x) is Tensor and not is_other_vision(x)][:1]
        if not images:
            raise InputError(
                f"the sample holds {', '.join(map(named, leaves)) or 'nothing'}, and no image; "
                "pass a PIL image or a tensor in it"
            )
        purified = {id(x): self.outcome(x).value for x in images}
        return _with_leaves(sample, purified)

    def outcome(self, x: Any, *, progress: Progress | None = None) -> Outcome:
        """As a call, with what became of each image.

        Args:
            x: see `purify`.
            progress: of this call, in place of the module's.

        Raises:
            InputError: for what is no image, or none that the purifier takes.
            CollapseError: if an image lost its contrast or colours and `on_collapse` is "raise".
        """
        began = time.perf_counter()
        several = isinstance(x, list | tuple)
        all_given = [given(one, self.layout) for one in x] if several else [given(x, self.layout)]
        jobs = self._jobs(all_given)
        if jobs:
            with torch.no_grad(), self._told(jobs, progress or self.progress) as told:
                run(jobs, seed=self.seed, on_collapse=self.on_collapse, progress=told)
        seconds = time.perf_counter() - began
        outcomes = [_outcome(job, seconds) for job in jobs]
        self._tell_collapses(outcomes)
        results = iter(job.result for job in jobs)
        values = [one.restored(_batch([next(results) for _ in one.images])) for one in all_given]
        return Outcome(values if several else values[0], outcomes)

    def extra_repr(self) -> str:
        shown = self.purifier if isinstance(self.purifier, str) else self.purifier.name
        preset = "" if self.preset is None else f", preset={str(self.preset)!r}"
        return f"{shown!r}{preset}, seed={self.seed}"

    def _checked(self, purifier: str | Purifier | Call) -> str | Purifier:
        """The name of an estimator, whose network the images decide, or any other purifier."""
        if isinstance(purifier, str) and purifiers.has_presets(purifier):
            purifiers.load(purifier, preset=self.preset, network=self.network)  # may not exist
            return purifier
        engine = None if self.engine == "auto" else self.engine
        for name, value in (("preset", self.preset), ("network", self.network), ("engine", engine)):
            if value is not None:
                raise InputError(
                    f"{name} is {str(value)!r}, but {named(purifier)} is no name of an estimator; "
                    "leave it out"
                )
        found = purifiers.load(purifier) if isinstance(purifier, str) else as_purifier(purifier)
        if found.position != "before":
            raise InputError(
                f"purifier is {named(purifier)}, which acts inside a classifier and changes no "
                "image; use purifier.behind(classifier)"
            )
        return found

    def train(self, mode: bool = True) -> Self:
        """Changes nothing; a purifier that is a module keeps its own mode."""
        self.training = mode
        return self

    def _jobs(self, all_given: Sequence[Given]) -> list[Job]:
        """One for every image. The images of a batch have the ids 0, 1, …, any other image 0."""
        purifier_for = cache(self.purifier_for)  # images of one purifier are purified together
        jobs = []
        for one in all_given:
            purifier = purifier_for(tuple(one.images.shape[1:]))
            tile = tile_for(purifier, image_size(one.images), self.tile)
            jobs += [Job(image, purifier, i, tile) for i, image in enumerate(one.images)]
        return jobs

    def fits(self, shape: tuple[int, int, int]) -> list[Fit]:
        """The fits that an image of this shape, (C, H, W), takes; none of a fixed purifier."""
        purifier = self.purifier_for(shape)
        if not isinstance(purifier, Estimator):
            return []
        tile = tile_for(purifier, shape[1:], self.tile)
        return [(purifier, size) for size in sizes(shape[1:], tile)]

    def purifier_for(self, shape: tuple[int, ...]) -> Purifier:
        """What purifies images of this shape, (C, H, W).

        Raises:
            InputError: for images that the purifier does not take.
        """
        if isinstance(self.purifier, Preset):
            estimator: Estimator = self.purifier.on(name_for(shape))
            return estimator
        if not isinstance(self.purifier, str):
            return self.purifier
        network = self.network or name_for(shape)
        made = purifiers.load(
            self.purifier, preset=self.preset, network=network, engine=self.engine
        )
        return careful(made) if isinstance(made, Estimator) else made

    @contextmanager
    def _told(
        self, jobs: Sequence[Job], wanted: Progress | bool | None
    ) -> Iterator[Progress | None]:
        """What is told of the progress: a callback, a bar on a terminal, or a warning."""
        if callable(wanted):
            yield wanted
            return
        shown = wanted is not False and sys.stderr is not None and sys.stderr.isatty()
        if not shown:
            if wanted is None:
                fits = [fit for job in jobs for fit in self.fits(_shape(job.image))]
                warn_if_long(fits, jobs[0].image)
            yield None
            return
        began = time.monotonic()
        with terminal_bar("steps") as move:

            def told(done: int, total: int) -> None:
                if time.monotonic() > began + _SOON:
                    move("purifying", done, total)

            yield told

    def _tell_collapses(self, outcomes: Sequence[ImageOutcome]) -> None:
        lost = [i for i, image in enumerate(outcomes) if image.collapsed]
        if not lost:
            return
        which = f"{', '.join(map(str, lost[:10]))}{', …' if lost[10:] else ''}"
        told = f"{len(lost)} of {len(outcomes)} images lost contrast or colours ({which})"
        advice = "use another preset or purifier, as jpeg:20 for photographs"
        if self.on_collapse == "raise":
            raise CollapseError(f"{told}; {advice}, or on_collapse='input'")
        became = "were kept so" if self.on_collapse == "keep" else "are returned as they were"
        warnings.warn(f"{told} and {became}; {advice}", CollapseWarning, stacklevel=4)


class Options(TypedDict, total=False):
    """The further settings of `purify` and `Purify`.

    Attributes:
        network: of an estimator that is named; by default that for the image's channels and size.
        engine: of an estimator that is named.
        tile: an image with a side above this is purified in tiles of this side, in pixels, if
            the purifier works on a pixel's surroundings alone, as estimators and filters do.
        on_collapse: what becomes of an image, or of a tile, that lost its contrast or colours after
            all refits: "keep" it with a `CollapseWarning`, "input" returns what was given in its
            place, with the same warning, "raise" raises.
        layout: of arrays and tensors, if their shape can be read in two ways.
        progress: a callback (steps done, steps in all); True and None show a bar on a terminal,
            False shows none. Without a terminal None warns of fits that take over a minute.
    """

    network: NetworkName | None
    engine: EngineName
    tile: int
    on_collapse: OnCollapse
    layout: Layout | None
    progress: Progress | bool | None


Named = str | Purifier | Call
"""A purifier: its name, or itself."""


@overload
def purify(
    x: X,
    purifier: Named = ...,
    preset: FilePath | None = ...,
    seed: int = ...,
    **options: Unpack[Options],
) -> X: ...
@overload
def purify(
    x: FilePath,
    purifier: Named = ...,
    preset: FilePath | None = ...,
    seed: int = ...,
    **options: Unpack[Options],
) -> Image.Image: ...
@overload
def purify(
    x: Sequence[Any],
    purifier: Named = ...,
    preset: FilePath | None = ...,
    seed: int = ...,
    **options: Unpack[Options],
) -> list[Any]: ...
def purify(
    x: Any,
    purifier: Named = "ride",
    preset: FilePath | None = None,
    seed: int = 0,
    **options: Unpack[Options],
) -> Any:
    """Purified images of the kind that was given: same layout, dtype, device and size.

    | given | returned |
    | --- | --- |
    | a tensor [H, W], [C, H, W] or [N, C, H, W], or with the channels last | such a tensor |
    | an array, as a tensor | such an array |
    | a PIL image | such an image; mode 1 becomes L, palettes and CMYK become RGB |
    | the path of an image file | a PIL image, upright |
    | a list or tuple of these | a list |

    Pixels are uint8, or floating point in [0, 1]; C is 1 or 3. Transparency and metadata
    (`image.info`) of a PIL image are kept. All is computed in float32.

    A result depends on the image, the seed and the settings alone: `purify([a, b])` is
    `[purify(a), purify(b)]`. The images of one batch get noise of their own, as from
    `RIDE.preset("fast")(batch, seed=seed)`.

    Args:
        x: what to purify.
        purifier: a name of `ridefense.purifiers`, as "median:5"; a purifier; or a callable.
        preset: of an estimator that is named ("ride", "dae", "recorrupted", …): "fast" by default,
            which is not for photographs.
        seed: 0 ≤ seed < 2¹²⁸.
        options: see `Options`.

    Raises:
        InputError: for what is no image, or none that the purifier takes.
        CollapseError: if an image collapsed and `on_collapse` is "raise".
    """
    return Purify(purifier, preset, seed, **options).outcome(x).value


def _outcome(job: Job, seconds: float) -> ImageOutcome:
    channels, height, width = job.image.shape
    return ImageOutcome(
        purifier=job.purifier.name,
        height=height,
        width=width,
        channels=channels,
        tiles=job.tiles,
        collapsed=job.collapsed,
        refits=job.refits,
        engine=job.engine or "",
        seconds=seconds,
    )


def _batch(images: Sequence[Tensor]) -> Tensor:
    """Images [C, H, W] as [N, C, H, W]; of one a view, for it may be large."""
    return images[0][None] if len(images) == 1 else torch.stack(list(images))


def _shape(image: Tensor) -> tuple[int, int, int]:
    channels, height, width = image.shape
    return channels, height, width


def _leaves(sample: Any) -> Iterator[Any]:
    """What a nested sample holds, in order."""
    if isinstance(sample, dict):
        sample = tuple(sample.values())
    if isinstance(sample, list | tuple):
        for part in sample:
            yield from _leaves(part)
    else:
        yield sample


def _with_leaves(sample: Any, changed: dict[int, Any]) -> Any:
    """The sample with some leaves replaced, by their identity."""
    if isinstance(sample, dict):
        return type(sample)((key, _with_leaves(value, changed)) for key, value in sample.items())
    if isinstance(sample, list | tuple):
        parts = [_with_leaves(part, changed) for part in sample]
        made = getattr(sample, "_make", type(sample))  # of a named tuple
        return made(parts)
    return changed.get(id(sample), sample)
