"""Randomised smoothing: predictions that no perturbation within an ℓ2 radius changes.

The smoothed classifier is g(x) = argmax_c P[f(x + δ) = c], δ ~ N(0, σ²I). f may be anything, so a
purifier in front of a classifier is certified as it is (denoised smoothing, Salman et al. 2020,
with a purifier in the denoiser's place).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ridefense.certify import bounds
from ridefense.defended import Defended
from ridefense.errors import InputError
from ridefense.images import check_images
from ridefense.logits import logits_of
from ridefense.names import NoisePath
from ridefense.noise import Keys, Stream, derive
from ridefense.purifier import named

ABSTAIN = -1
"""The prediction where the draws do not decide."""

Phase = Literal["select", "estimate"]
"""Which draws: those that choose the class (n0), or those that count it (n)."""

Progress = Callable[[int, int], None]
"""Called with the draws done and their number."""


@dataclass(frozen=True)
class Certificate:
    """What smoothing found for one image.

    Attributes:
        prediction: the class; `ABSTAIN` where nothing is certified.
        radius: in ℓ2, [0, 1] pixels; 0 where it abstains. Rounded down.
        candidate: the class that n0 draws chose.
        hits: how many of `drawn` draws were of that class.
        drawn: draws counted; fewer than n where it abstained early, see `bounds.is_hopeless`. None
            where those that chose the class already said so.
        bound: the lower bound of the candidate's probability from n draws; of an abstention that
            stopped early, the highest that it could still have reached.
    """

    prediction: int
    radius: float
    candidate: int
    hits: int
    drawn: int
    bound: float

    @property
    def abstains(self) -> bool:
        return self.prediction == ABSTAIN


class Smoothed:
    """A classifier, bare or behind a purifier, under Gaussian noise.

    Every draw is an input of its own: its noise and its purifier's randomness come from streams of
    their own, keyed by (seed, image id, phase, draw). So a result depends neither on `batch` nor on
    which other images are certified.

    Args:
        model: pixels [N, C, H, W] to logits [N, classes]; a `Defended`, or any module. It is
            used in eval mode.
        sigma: standard deviation of the noise, in [0, 1] pixels, above 0.
        path: see `names.NoisePath`.
        batch: draws that the model is given at once. It changes speed and memory alone.

    Raises:
        InputError: for a sigma that is not positive and finite, another path, and a purifier that
            does not take pixels beyond [0, 1] under path "raw".
    """

    def __init__(
        self, model: nn.Module, sigma: float, *, path: NoisePath = "raw", batch: int = 256
    ) -> None:
        if not (isinstance(sigma, int | float) and 0 < sigma < math.inf):
            raise InputError(f"sigma is {sigma!r}; use a positive number of [0, 1] pixels, as 0.5")
        if path not in get_args(NoisePath):
            raise InputError(f"path is {path!r}; use {' or '.join(get_args(NoisePath))}")
        if not isinstance(batch, int) or batch < 1:
            raise InputError(f"batch is {batch!r}; use a whole number of at least 1")
        if path == "raw" and isinstance(model, Defended) and not model.takes_raw:
            raise InputError(
                f"purifier {named(model.purifier)} does not take pixels beyond [0, 1]; use "
                'path="clipped"'
            )
        self.model, self.sigma, self.path, self.batch = model, float(sigma), path, batch

    def certify(
        self,
        images: Tensor,
        *,
        n0: int = 100,
        n: int = 10_000,
        alpha: float = 0.001,
        ids: Sequence[int | str] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Certificate]:
        """CERTIFY: each image's class and a radius that holds with probability 1 - `alpha`.

        Args:
            images: float [N, C, H, W], pixels in [0, 1].
            n0: draws that choose the class.
            n: further draws that count it.
            ids: of the images, by default 0, 1, …; with `seed` they decide every random number.
            seed: of the draws.
            progress: see `Progress`.

        Raises:
            InputError: for images, numbers or a model that cannot be used, an n so small that it
                certifies nothing, and logits that are not finite.
        """
        self.check(n0, n, alpha)
        found = []
        for row, (image, key) in enumerate(self._each(images, ids)):
            done = row * (n0 + n)
            report = _from(progress, done, len(images) * (n0 + n))
            counts = self._counts(image, key, seed, "select", n0, report)
            candidate = int(counts.argmax())
            report = _from(progress, done + n0, len(images) * (n0 + n))
            if bounds.is_hopeless(int(counts[candidate]), n0):
                report(n, n)
                bound = bounds.lower_bound(n, n, alpha)
                found.append(Certificate(ABSTAIN, 0.0, candidate, 0, 0, bound))
                continue
            found.append(self._certificate(image, key, seed, candidate, n, alpha, report))
        return found

    def check(self, n0: int, n: int, alpha: float) -> None:
        """Refuse numbers that `certify` cannot use.

        Raises:
            InputError: for counts that are not positive, an alpha outside (0, 1), and an n so small
                that it certifies nothing.
        """
        bounds.check_alpha(alpha)
        _check_count("n0", n0)
        _check_count("n", n)
        if (needed := bounds.draws_for(0.0, self.sigma, alpha)) > n:
            raise InputError(
                f"n is {n}, which certifies nothing at alpha {alpha:g}; use {needed} or more"
            )

    def check_independence(self, images: Tensor) -> None:
        """Refuse a model that mixes the draws of a batch, for which certificates do not hold.

        Args:
            images: float [N, C, H, W]; the first is shown in three draws, together and alone.

        Raises:
            InputError: if a draw's logits depend on the other draws by more than rounding.
        """
        image, key = next(self._each(images[:1], None))
        whole, single = (
            Smoothed(self.model, self.sigma, path=self.path, batch=size) for size in (3, 1)
        )
        (together,) = whole._drawn_logits(image, key, 0, "select", 3)
        alone = list(single._drawn_logits(image, key, 0, "select", 3))
        difference = (torch.cat(alone) - together).abs().max()
        if difference > 1e-2 * (1 + together.abs().max()):
            raise InputError(
                "the logits of a noisy image depend on the others in its batch, so that no "
                "certificate would hold; use a purifier and a classifier that treat each image "
                "by itself"
            )

    def predict(
        self,
        images: Tensor,
        *,
        n: int = 1000,
        alpha: float = 0.001,
        ids: Sequence[int | str] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[int]:
        """PREDICT: each image's class, or `ABSTAIN` where the two most frequent may be equal.

        What it returns is g(x) with probability at least 1 - `alpha`. Arguments and errors are
        those of `certify`.
        """
        bounds.check_alpha(alpha)
        found = []
        for counts in self.votes(images, n=n, ids=ids, seed=seed, progress=progress):
            first, second = counts.topk(2).values.tolist()
            chosen = int(counts.argmax())
            found.append(chosen if bounds.differ(first, second, alpha) else ABSTAIN)
        return found

    def votes(
        self,
        images: Tensor,
        *,
        n: int = 1000,
        ids: Sequence[int | str] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Tensor:
        """How many of n draws are of each class, int64 [N, classes].

        Arguments and errors are those of `certify`, whose draws that count the class these are.
        """
        _check_count("n", n)
        found = []
        for row, (image, key) in enumerate(self._each(images, ids)):
            report = _from(progress, row * n, len(images) * n)
            found.append(self._counts(image, key, seed, "estimate", n, report))
        return torch.stack(found)

    def _certificate(
        self,
        image: Tensor,
        key: int,
        seed: int,
        candidate: int,
        n: int,
        alpha: float,
        progress: Progress,
    ) -> Certificate:
        hits = drawn = 0
        for logits in self._drawn_logits(image, key, seed, "estimate", n):
            hits += int((logits.argmax(dim=1) == candidate).sum())
            drawn += len(logits)
            progress(drawn, n)
            # To stop at a success would invalidate the bound; to stop at an abstention does not.
            bound = bounds.lower_bound(hits + n - drawn, n, alpha)
            if bound <= 0.5 or bounds.is_hopeless(hits, drawn):
                progress(n, n)
                return Certificate(ABSTAIN, 0.0, candidate, hits, drawn, bound)
        return Certificate(
            candidate, bounds.radius(bound, self.sigma), candidate, hits, drawn, bound
        )

    def _counts(
        self, image: Tensor, key: int, seed: int, phase: Phase, n: int, progress: Progress
    ) -> Tensor:
        """How many of n draws are of each class, int64 [classes]."""
        counts, done = None, 0
        for logits in self._drawn_logits(image, key, seed, phase, n):
            part = torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1])
            counts = part if counts is None else counts + part
            done += len(logits)
            progress(done, n)
        assert counts is not None  # n is at least 1
        return counts

    @torch.no_grad()
    def _drawn_logits(
        self, image: Tensor, key: int, seed: int, phase: Phase, n: int
    ) -> Iterator[Tensor]:
        """Logits of n draws, [draws, classes], in batches."""
        keys = Keys.of(derive(seed, "smoothing", phase), [key], 1, image.device)
        purifier_seed = derive(seed, "purifier", phase, key)
        for start in range(0, n, self.batch):
            draws = range(start, min(start + self.batch, n))
            noise = keys.normal(Stream.SMOOTHING, draws, image.numel()).view(-1, *image.shape)
            noisy = (image + self.sigma * noise).to(image.dtype)
            yield self._logits(noisy, draws, purifier_seed)

    def _logits(self, noisy: Tensor, draws: Sequence[int], purifier_seed: int) -> Tensor:
        """Of one image's draws, [draws, classes]; each has the purifier's randomness of its own."""
        if self.path == "clipped":
            noisy = noisy.clamp(0, 1)
        if not isinstance(self.model, Defended):
            logits = logits_of(self.model, noisy)
        elif self.path == "raw":
            logits = self.model.raw_logits(noisy, ids=draws, seed=purifier_seed)
        else:
            logits = self.model(noisy, ids=draws, seed=purifier_seed)
        if not logits.isfinite().all():
            raise InputError(
                f"the model's logits on noise of sigma {self.sigma:g} are NaN or infinite; use a "
                'model that takes pixels beyond [0, 1], or path="clipped"'
            )
        return logits

    def _each(
        self, images: Tensor, ids: Sequence[int | str] | None
    ) -> Iterator[tuple[Tensor, int]]:
        """Images [C, H, W] with their ids."""
        check_images(images)
        keys = Keys.of(0, ids, len(images), images.device)
        return zip(images.detach(), keys.ids.tolist(), strict=True)


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; use a whole number of at least 1")


def _from(progress: Progress | None, done: int, total: int) -> Progress:
    """Progress of a part, told as that of the whole."""
    if progress is None:
        return lambda *_: None
    return lambda part, _: progress(done + part, total)
