"""The curves of an audit, as SVG that depends on the records alone."""

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ridefense.audit.checks import ladders
from ridefense.audit.findings import Findings
from ridefense.report.drawing import STYLE, as_svg
from ridefense.results import Accuracy, AttackResult, DefenceResult

Point = tuple[float, Accuracy]


def plots(findings: Findings) -> dict[str, str]:
    """SVG by title; only those that have something to show."""
    drawn = {
        "Accuracy against ε": _over_radius(findings),
        "Accuracy against steps": _over(findings, "steps"),
        "Accuracy against draws of EOT": _over(findings, "eot"),
    }
    return {title: svg for title, svg in drawn.items() if svg}


def radius_curve(defence: DefenceResult) -> list[Point]:
    """Survivors of the worst attack at each radius, from clean images at 0."""
    cases = (defence.worst_case(norm, eps) for norm, eps in defence.balls if norm == "Linf" and eps)
    return [(0.0, defence.clean.accuracy), *((case.eps, case.accuracy) for case in cases if case)]


def _over_radius(findings: Findings) -> str | None:
    curves = {defence.title: radius_curve(defence) for defence in findings.defences}
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    subject = findings.subject.title
    return _draw(curves, "ε, ℓ∞ in [0, 1] pixels", bold=subject) if curves else None


def _over(findings: Findings, setting: str) -> str | None:
    curves = {
        _named(group, setting): _points(group, setting) for group in _rising(findings, setting)
    }
    return (
        _draw(curves, {"eot": "draws of EOT"}.get(setting, setting), log=True) if curves else None
    )


def _rising(findings: Findings, setting: str) -> list[list[AttackResult]]:
    audited = tuple(a for a in findings.subject.attacks if a.threat.ball in findings.balls)
    return ladders(audited, setting)


def _points(group: list[AttackResult], setting: str) -> list[Point]:
    return [(attack.threat.number(setting), attack.accuracy) for attack in group]


def _named(group: list[AttackResult], setting: str) -> str:
    """The attacks' title without the number that rises."""
    word = {"steps": " steps", "eot": "EOT "}[setting]
    parts = [part for part in group[-1].title.split(", ") if word not in part]
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
