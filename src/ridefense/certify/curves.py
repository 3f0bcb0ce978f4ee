"""Curves of certified accuracy, with those of others beside them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ridefense.certify.attacked import AttackedResult
from ridefense.certify.logs import CertificateLog
from ridefense.certify.published import Published, published
from ridefense.certify.results import CertificationResult
from ridefense.datasets import family
from ridefense.pages import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from ridefense.pages.drawing import Point

_STEPS = 60  # of a curve


def beside(results: Sequence[CertificationResult]) -> list[Published]:
    """What others published on the data sets and at the noise levels of some results."""
    found = [
        entry
        for result in results
        for entry in published(family(result.folder.settings["dataset"]["name"]), result.sigma)
    ]
    return list(dict.fromkeys(found))


def figure(
    results: Sequence[CertificationResult],
    attacks: Sequence[AttackedResult],
    logs: Sequence[CertificateLog],
) -> Figure:
    """Certified accuracy against radius, a panel for each noise level.

    Args:
        attacks, logs: as in `reporting.page`.
    """

    def draw() -> "Drawing":
        from ridefense.pages.drawing import curves

        reach = max((row.radius for r in results for row in r.rows), default=0.0) or 1.0
        radii = [reach * step / _STEPS for step in range(_STEPS + 1)]
        sigmas = sorted({result.sigma for result in results})
        panels = {}
        for sigma in sigmas:
            part = [result for result in results if result.sigma == sigma]
            panels[f"σ {sigma:g}"] = (
                _curves(part, attacks, radii) | _published_curves(part) | _log_curves(logs, radii)
            )
        return curves(
            panels,
            "ℓ2 radius",
            "certified accuracy, %",
            dashed=(*_published_curves(results), *(log.name for log in logs)),
            y_range=(-3, 103),
        )

    return Figure("Certified accuracy against radius", draw, "Bands: 95% intervals.")


def _curves(
    results: Sequence[CertificationResult],
    attacks: Sequence[AttackedResult],
    radii: Sequence[float],
) -> "dict[str, list[Point]]":
    """Of results of one σ: each result's curve, and what attacks on it left."""
    from ridefense.pages.drawing import Point

    drawn = {}
    for name, result in zip(_names(results), results, strict=True):
        drawn[name] = [Point.percent(radius, result.certified(radius)) for radius in radii]
        under = sorted(
            (found for found in attacks if found.certified is result), key=lambda found: found.eps
        )
        if under:
            drawn[f"{name}, attacked"] = [Point.percent(one.eps, one.upper) for one in under]
    return drawn


def _published_curves(results: Sequence[CertificationResult]) -> "dict[str, list[Point]]":
    from ridefense.pages.drawing import Point

    return {
        f"{p.method} ({p.source})": [
            Point.at(x, 100 * y) for x, y in zip(p.radii, p.shares, strict=True)
        ]
        for p in beside(results)
    }


def _log_curves(logs: Sequence[CertificateLog], radii: Sequence[float]) -> "dict[str, list[Point]]":
    from ridefense.pages.drawing import Point

    return {
        log.name: [Point.percent(radius, log.certified(radius)) for radius in radii] for log in logs
    }


def _names(results: Sequence[CertificationResult]) -> list[str]:
    """A name for each of one σ, with its folder's where what it tells does not set two apart."""
    names = [f"{result.title}, {result.classifier}" for result in results]
    return [
        name if names.count(name) == 1 else f"{name} ({result.name})"
        for name, result in zip(names, results, strict=True)
    ]
