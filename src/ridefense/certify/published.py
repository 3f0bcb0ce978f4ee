"""Certified accuracies that others published, in per cent, to stand beside ours."""

from dataclasses import dataclass

RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
"""ℓ2 radii, [0, 1] pixels, at which certified accuracies are published and tabulated."""


@dataclass(frozen=True)
class Published:
    """A certified accuracy curve.

    Attributes:
        family: "MNIST", "CIFAR-10" or "ImageNet".
        sigma: of the noise, in [0, 1] pixels; None for the best of several at each radius.
        method: what was certified.
        source: who published it.
        shares: as fractions, at the radii of `radii`.
        radii: ℓ2, in [0, 1] pixels.
    """

    family: str
    sigma: float | None
    method: str
    source: str
    shares: tuple[float, ...]
    radii: tuple[float, ...] = RADII


def _curve(
    family: str,
    sigma: float | None,
    method: str,
    source: str,
    *per_cent: float,
    radii: tuple[float, ...] = RADII,
) -> Published:
    return Published(family, sigma, method, source, tuple(p / 100 for p in per_cent), radii)


_TRAINED = "classifier trained on the noise"
_COHEN = "Cohen et al. 2019"
_SALMAN = "Salman et al. 2020"
_DENOISED = (0.25, 0.5, 0.75, 1.0)

PUBLISHED: tuple[Published, ...] = (
    _curve("MNIST", 0.25, _TRAINED, _COHEN, 99, 98, 97, 93, 0, 0),
    _curve("MNIST", 0.5, _TRAINED, _COHEN, 99, 98, 97, 94, 90, 68),
    _curve("MNIST", 1.0, _TRAINED, _COHEN, 96, 94, 91, 87, 80, 59),
    _curve("CIFAR-10", 0.25, _TRAINED, _COHEN, 75, 60, 43, 27, 0, 0),
    _curve("CIFAR-10", 0.5, _TRAINED, _COHEN, 65, 55, 41, 32, 23, 9),
    _curve("CIFAR-10", 1.0, _TRAINED, _COHEN, 47, 39, 34, 28, 22, 14),
    _curve("ImageNet", 0.25, _TRAINED, _COHEN, 67, 58, 49, 38, 0, 0),
    _curve("ImageNet", 0.5, _TRAINED, _COHEN, 57, 52, 46, 42, 37, 29),
    _curve("ImageNet", 1.0, _TRAINED, _COHEN, 44, 41, 38, 35, 33, 26),
    _curve("CIFAR-10", None, "no denoiser", _SALMAN, 7, 3, 0, 0, radii=_DENOISED),
    _curve("CIFAR-10", None, "denoiser, black box", _SALMAN, 45, 20, 15, 13, radii=_DENOISED),
    _curve("CIFAR-10", None, "denoiser, white box", _SALMAN, 56, 41, 28, 19, radii=_DENOISED),
    _curve("ImageNet", None, "no denoiser", _SALMAN, 32, 4, 2, 0, radii=_DENOISED),
    _curve("ImageNet", None, "denoiser, black box", _SALMAN, 48, 31, 19, 12, radii=_DENOISED),
    _curve("ImageNet", None, "denoiser, white box", _SALMAN, 50, 33, 20, 14, radii=_DENOISED),
)


def published(family: str | None, sigma: float) -> list[Published]:
    """The curves of a family of data sets at this noise level, or at their best."""
    return [p for p in PUBLISHED if p.family == family and p.sigma in (None, sigma)]
