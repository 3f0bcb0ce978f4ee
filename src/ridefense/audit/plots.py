"""The curves of an audit, as SVG that depends on the records alone."""

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ridefense.audit.checks import ladders
from ridefense.audit.findings import Attacked, Case, Findings, accuracy, picked
from ridefense.evaluate import Accuracy
from ridefense.report.drawing import STYLE, as_svg

Point = tuple[float, Accuracy]


def plots(findings: Findings) -> dict[str, str]:
    """SVG by title; only those that have something to show."""
    drawn = {
        "Accuracy against ε": _over_radius(findings),
        "Accuracy against steps": _over(findings, "steps"),
        "Accuracy against draws of EOT": _over(findings, "eot"),
    }
    return {title: svg for title, svg in drawn.items() if svg}


def radius_curve(case: Case) -> list[Point]:
    """Survivors of the worst attack at each radius, from clean images at 0."""
    points = [(0.0, case.clean.score.mean)]
    for eps in case.radii:
        if eps and case.at(eps):
            points.append((eps, accuracy(picked(case.at(eps)))))
    return points


def _over_radius(findings: Findings) -> str | None:
    curves = {case.defence: radius_curve(case) for case in findings.cases}
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    subject = findings.subject.defence
    return _draw(curves, "ε, ℓ∞ in [0, 1] pixels", bold=subject) if curves else None


def _over(findings: Findings, setting: str) -> str | None:
    curves = {
        _named(group, setting): _points(group, setting) for group in _rising(findings, setting)
    }
    return (
        _draw(curves, {"eot": "draws of EOT"}.get(setting, setting), log=True) if curves else None
    )


def _rising(findings: Findings, setting: str) -> list[list[Attacked]]:
    audited = tuple(a for a in findings.subject.attacks if a.eps in findings.radii)
    return ladders(audited, setting)


def _points(group: list[Attacked], setting: str) -> list[Point]:
    return [(attack.inner[setting], attack.score.mean) for attack in group]


def _named(group: list[Attacked], setting: str) -> str:
    """The ladder's attack without the number that rises."""
    word = {"steps": " steps", "eot": "EOT "}[setting]
    parts = [p for p in group[-1].title.split(", ") if word not in p]
    return f"{', '.join(parts)}, ε {group[0].eps:g}"


def _draw(curves: dict[str, list[Point]], label: str, *, log: bool = False, bold: str = "") -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axes = figure.subplots()
        for name, points in curves.items():
            _curve(axes, name, points, 2.4 if name == bold else 1.1)
        axes.set(xlabel=label, ylabel="accuracy, % (upper bound)", ylim=(-3, 103))
        if log:
            axes.set_xscale("log")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=7)
    return as_svg(figure)


def _curve(axes: Axes, name: str, points: list[Point], width: float) -> None:
    """Means, and their 95% intervals as bars."""
    x = [at for at, _ in points]
    y = [100 * share.fraction for _, share in points]
    bounds = [share.interval for _, share in points]
    below = [mean - 100 * low for mean, (low, _) in zip(y, bounds, strict=True)]
    above = [100 * high - mean for mean, (_, high) in zip(y, bounds, strict=True)]
    axes.errorbar(
        x, y, (below, above), label=name, linewidth=width, marker="o", markersize=3, elinewidth=0.5
    )
