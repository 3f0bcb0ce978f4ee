"""The fitting loop (Algorithms 1 and 2), one for all estimators and all engines."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ridefense import engines
from ridefense.collapse import is_collapsed, is_constant
from ridefense.engines import Progress, Start, eager, image_size
from ridefense.errors import CollapseError, CollapseWarning, InputError
from ridefense.images import check_images, cut_to_range
from ridefense.long_fits import warn_if_long
from ridefense.noise import Id, Keys, Stream
from ridefense.settings import Settings


@dataclass(frozen=True)
class Moment:
    """What a callback sees: N fits after some steps, pixels in [0, 1].

    Attributes:
        round: t, from 1.
        step: gradient steps done, over all rounds.
        x: the current x^(t-1), [N, C, H, W].
        x_est: E_z h(z; w) now, [N, C, H, W].
        ids: int64 [N], the words of the images' ids (`noise.id_word`). Images that are fitted again
            after a collapse come by themselves.
    """

    round: int
    step: int
    x: Tensor
    x_est: Tensor
    ids: Tensor


Callback = Callable[[Moment], bool | None]
"""Called with each `Moment`; a true result stops the fit after that round, for good."""


@dataclass(frozen=True)
class Descent:
    """Theorem 1's condition, measured at every round t: each a tensor [T, N].

    NaN for rounds that were not run, because a callback stopped the fit.

    Attributes:
        before: L_DAE at x^(t-1) with the weights the round began with.
        after: the same with the weights it ended with; same noise, dropout on as in training.
        objective: L_RIDE, `after` + λ·d(x^(t-1), x^(t-2)) (Eq. 8), λ = α/(1-α).
    """

    before: Tensor
    after: Tensor
    objective: Tensor

    @property
    def holds(self) -> Tensor:
        """Whether the round did not raise the loss, bool [T, N]."""
        return ~(self.after > self.before)


@dataclass(frozen=True)
class Estimate:
    """The result of fitting N images, in pixels.

    Rounds that were not run, because a callback stopped the fit, repeat the last one.

    Attributes:
        value: x_est^(T), the estimate of the clean images, [N, C, H, W] in [0, 1]; after a
            collapse what `on_collapse` says.
        x: x^(0) … x^(T), [T+1, N, C, H, W]; x^(0) is the input. Not clamped: where the network
            does not end in a sigmoid, it may leave [0, 1].
        x_est: x_est^(1) … x_est^(T), [T, N, C, H, W] in [0, 1].
        losses: of every step, [N, K·T], NaN for steps that were not run.
        weights: of the last round, [N, P], see `networks.py`.
        attempts: int64 [N], how often an image was fitted again after a collapse.
        collapsed: bool [N], which of the final estimates lost the contrast or the colours of their
            image (`collapse.py`), whatever `on_collapse` made of them.
        settings: what was asked for.
        engine: what executed it.
        seconds: wall time for the whole batch.
        descent: Theorem 1's check where it was asked for.
    """

    value: Tensor
    x: Tensor
    x_est: Tensor
    losses: Tensor
    weights: Tensor
    attempts: Tensor
    collapsed: Tensor
    settings: Settings
    engine: str
    seconds: float
    descent: Descent | None = None


def estimate(
    settings: Settings,
    images: Tensor,
    *,
    ids: Sequence[Id] | None = None,
    seed: int = 0,
    callback: Callback | None = None,
    every: int | None = None,
    progress: Progress | None = None,
    bounded: bool = True,
    start: Start = engines.start,
    differentiable: bool = False,
) -> Estimate:
    """Fit a network to each image, and estimate the clean images (Algorithms 1 and 2).

    Args:
        settings: which estimator.
        images: float [N, C, H, W], pixels in [0, 1]; float16 and bfloat16 are fitted in float32.
        ids: of the images, whole numbers or strings; by default 0, 1, … A result depends on
            (seed, id, settings) alone, not on the batch: bit for bit with the native engine; with
            eager to rounding, which a fit of many steps or of large ones amplifies, as it does the
            difference between engines.
        seed: 0 ≤ seed < 2¹²⁸.
        callback: called every `every` steps, by default after each round's last step.
        bounded: whether pixels beyond [0, 1] are refused; noisy images have them.
        progress: called with the image-steps done and their total, while the engine runs; anew
            for the images that are fitted again after a collapse.
        start: starts the fits, by default with the engine that `settings` ask for.
        differentiable: whether the result stays connected to `images`, as far as the fits of
            `start` are; the gradient modes use this.

    Raises:
        InputError: for images or settings that do not fit together.
        CollapseError: where an estimate collapsed and `on_collapse` is "raise".
    """
    check_images(images, bounded=bounded)
    channels = settings.network.channels[0]
    if images.shape[1] != channels and images.shape[3] == channels:
        raise InputError(
            f"images have shape {tuple(images.shape)}, with the channels last; "
            "pass images.permute(0, 3, 1, 2)"
        )
    if images.shape[1] != channels:
        raise InputError(
            f"images have {images.shape[1]} channels, the network {channels}; use the network "
            "of the images' data set (mnist takes 1 channel, cifar10 and imagenet 3)"
        )
    asked = settings
    if settings.crop and settings.crop > min(images.shape[-2:]):
        settings = replace(settings, crop=None)
    if every is not None and every < 1:
        raise InputError(f"every is {every}; use a whole number of at least 1")
    if progress is None and callback is None:
        warn_if_long([(settings, image_size(images))] * len(images), images)
    began = time.perf_counter()
    if not differentiable:
        images = images.detach()
    # Fitting takes gradients of its own, also where its caller has switched them off, and in its
    # own precision.
    with torch.inference_mode(False), torch.autocast(images.device.type, enabled=False):
        precise = images.clone() if images.is_inference() else images
        precise = precise.to(torch.promote_types(images.dtype, torch.float32))
        keys = Keys.of(seed, ids, len(images), images.device)
        run = _Run(settings, precise, keys, callback, every, progress, start)
        result = run.result()
        refitted = is_constant if settings.refit_when == "constant" else is_collapsed
        for attempt in range(1, settings.refits + 1):
            again = refitted(precise, result.value).nonzero().flatten()
            if run.stopped or not len(again):
                break
            fresh = Keys(keys.seed, keys.ids[again], torch.full_like(again, attempt))
            run = _Run(settings, precise[again], fresh, callback, every, progress, start)
            result = _merge(result, run.result(), again)
        collapsed = is_collapsed(precise, result.value)
        value = _after_collapse(settings, result.value, precise, collapsed).to(images.dtype)
    return replace(
        result,
        value=value,
        collapsed=collapsed,
        settings=asked,
        seconds=time.perf_counter() - began,
    )


def update(settings: Settings, x: Tensor, x_est: Tensor) -> Tensor:
    """x^(t) from x^(t-1) and x_est^(t): Eq. 9 with non-maximum suppression (appendix).

    A pixel whose difference, summed over channels, lies below the median of its image is replaced
    by the estimate; the others take the convex combination.
    """
    mixed = settings.alpha * x + (1 - settings.alpha) * x_est
    if settings.suppression == "off":
        return mixed
    difference = (x_est - x).detach().abs().sum(dim=1, keepdim=True)
    ordered = difference.flatten(1).sort(dim=1).values
    count = ordered.shape[1]
    median = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
    return torch.where(difference < median.view(-1, 1, 1, 1), x_est, mixed)


class _Run:
    """One attempt at fitting a batch: the rounds of Algorithm 2."""

    def __init__(
        self,
        settings: Settings,
        images: Tensor,
        keys: Keys,
        callback: Callback | None,
        every: int | None,
        progress: Progress | None,
        start: Start,
    ) -> None:
        self.settings, self.keys = settings, keys
        self.callback, self.every, self.progress = callback, every, progress
        # The network's units are those of `normalisation` where it is set, else pixels.
        x = settings.normalisation.normalise(images) if settings.normalisation else images
        self.engine, self.fits = start(settings, x, keys)
        self.x, self.x_est = [x], list[Tensor]()
        self.losses: list[Tensor] = []
        self.checks: list[tuple[Tensor, Tensor, Tensor]] = []
        self.stopped = False

    def result(self) -> Estimate:
        rounds = self.settings.rounds
        for t in range(rounds):
            if not self.stopped:
                self._round(t)
        while len(self.x_est) < rounds:
            self.x_est.append(self.x_est[-1])
            self.x.append(self.x[-1])
            self.losses.append(torch.full_like(self.losses[-1], torch.nan))
        x_est = torch.stack([self._pixels(image) for image in self.x_est]).clamp(0, 1)
        return Estimate(
            value=x_est[-1],
            x=torch.stack([self._pixels(image) for image in self.x]),
            x_est=x_est,
            losses=torch.cat(self.losses, dim=1),
            weights=self.fits.weights,
            attempts=self.keys.attempts,
            collapsed=torch.zeros_like(self.keys.ids, dtype=torch.bool),
            settings=self.settings,
            engine=self.engine,
            seconds=0.0,
            descent=self._descent(),
        )

    def _round(self, t: int) -> None:
        settings, x = self.settings, self.x[-1]
        first, last = t * settings.steps, (t + 1) * settings.steps
        since = 0 if settings.carry == "all" else first
        if t and settings.carry == "weights":
            self.fits.moments = torch.zeros_like(self.fits.moments)
        before = self._denoising_loss(x, last)
        losses, x_est = [], x
        for begin, end in self._stretches(first, last):
            if end == last and settings.output == "last":
                losses.append(self._fit(x, range(begin, end - 1), since))
                x_est = self.fits.output(x, end - 1, 1, stream=Stream.INPUT, dropout=True)
                losses.append(self._fit(x, range(end - 1, end), since))
            else:
                losses.append(self._fit(x, range(begin, end), since))
                if end == last or self.callback:
                    samples, stream = settings.expectation
                    x_est = self.fits.output(x, end, samples, stream=stream)
            if self.callback:
                shown, guess = (self._pixels(image).clamp(0, 1) for image in (x, x_est))
                moment = Moment(t + 1, end, shown, guess, self.keys.ids)
                self.stopped |= bool(self.callback(moment))
        if before is not None:
            self._check(x, last, before)
        self.losses.append(torch.cat(losses, dim=1))
        self.x_est.append(x_est)
        self.x.append(update(settings, x, x_est))

    def _pixels(self, image: Tensor) -> Tensor:
        """From the network's units."""
        space = self.settings.normalisation
        return space.denormalise(image) if space else image

    def _fit(self, x: Tensor, steps: range, since: int) -> Tensor:
        rates = [self.settings.rate(step) for step in steps]
        return self.fits.fit(x, steps, rates, since, self._progress(len(x), steps))

    def _progress(self, images: int, steps: range) -> Progress | None:
        progress = self.progress
        if progress is None or not len(steps):
            return None
        before, total = steps.start * images, self.settings.total_steps * images
        return lambda done, _: progress(before + done, total)

    def _stretches(self, first: int, last: int) -> list[tuple[int, int]]:
        """A round's steps, cut where the callback wants to look."""
        every = self.every or self.settings.steps
        cuts = [step for step in range(first + 1, last) if step % every == 0]
        return list(zip([first, *cuts], [*cuts, last], strict=True))

    def _denoising_loss(self, x: Tensor, step: int) -> Tensor | None:
        if not self.settings.check_descent:
            return None
        return eager.denoising_loss(self.settings, self.keys, self.fits.weights.to(x), x, step)

    def _check(self, x: Tensor, step: int, before: Tensor) -> None:
        after = self._denoising_loss(x, step)
        assert after is not None
        moved = torch.zeros_like(after)
        alpha = self.settings.alpha
        if len(self.x) > 1 and alpha < 1:
            distance = (x - self.x[-2]).square().flatten(1).mean(dim=1)
            moved = alpha / (1 - alpha) * distance
        self.checks.append((before, after, after + moved))

    def _descent(self) -> Descent | None:
        if not self.checks:
            return None
        columns = (torch.stack(column) for column in zip(*self.checks, strict=True))
        left = self.settings.rounds - len(self.checks)
        return Descent(*(F.pad(column, (0, 0, 0, left), value=torch.nan) for column in columns))


def _after_collapse(settings: Settings, value: Tensor, images: Tensor, which: Tensor) -> Tensor:
    """The estimates with those that `which` (bool [N]) marks treated as `on_collapse` says."""
    rows = which.nonzero().flatten().tolist()
    if not rows:
        return value
    told = f"{len(rows)} of {len(value)} estimates lost their image's contrast or colours"
    if settings.on_collapse == "raise":
        raise CollapseError(
            f"{told} (images {', '.join(map(str, rows[:10]))}{', …' if rows[10:] else ''} of the "
            "batch); use another preset, more refits, or on_collapse='input'"
        )
    if settings.on_collapse == "input":
        return torch.where(which.view(-1, 1, 1, 1), cut_to_range(images), value)
    warnings.warn(
        "an estimate lost its image's contrast or colours: Estimate.collapsed tells which; "
        "on_collapse decides what becomes of it",
        CollapseWarning,
        stacklevel=3,
    )
    return value


def _merge(whole: Estimate, part: Estimate, rows: Tensor) -> Estimate:
    """`whole` with some of its images replaced by another attempt at them."""
    merged = {
        name: getattr(whole, name).index_copy(axis, rows, getattr(part, name))
        for name, axis in (
            ("value", 0), ("x", 1), ("x_est", 1), ("losses", 0), ("weights", 0), ("attempts", 0),
        )
    }  # fmt: skip
    if whole.descent is not None and part.descent is not None:
        columns = [
            getattr(whole.descent, name).index_copy(1, rows, getattr(part.descent, name))
            for name in ("before", "after", "objective")
        ]
        merged["descent"] = Descent(*columns)
    return replace(whole, **merged)
