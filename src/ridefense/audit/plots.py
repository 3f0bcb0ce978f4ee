"""The curves of an audit: survivors against ε, and whether the attacks have converged."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ridefense.audit.checks import ladders
from ridefense.audit.findings import Findings
from ridefense.pages import Figure
from ridefense.pages.drawing import Curve, Point, curves
from ridefense.results import AttackResult, DefenceResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_UPPER = "accuracy, % (upper bound)"
_WORDS = {"steps": (" steps", "steps"), "eot": ("EOT ", "draws of EOT")}


def over_radius(findings: Findings, defences: Iterable[DefenceResult]) -> list[Figure]:
    """Survivors of the worst attack at each radius: a line for each defence that has several."""
    found = {defence.title: radius_curve(defence) for defence in defences}
    drawn = {name: points for name, points in found.items() if len(points) > 1}
    if not drawn:
        return []
    name = findings.subject.title
    text = (
        f"Images that survive every attack, with 95% intervals; {name} is the thick line. Each "
        "point is an upper bound, and defences met different numbers of attacks."
    )
    return [
        Figure(
            "Survivors against ε",
            lambda: _draw(drawn, "ε, ℓ∞ in [0, 1] pixels", highlight=name),
            text,
        )
    ]


def convergence(findings: Findings) -> list[Figure]:
    """Accuracy against steps and draws of the same attack, where several were run."""
    attacks = tuple(a for a in findings.subject.attacks if a.threat.ball in findings.balls)
    found = []
    for setting, (_, label) in _WORDS.items():
        drawn = {_name(g, setting): _points(g, setting) for g in ladders(attacks, setting)}
        if drawn:
            found.append(
                Figure(f"Accuracy against {label}", partial(_draw, drawn, label, log=True))
            )
    return found


def radius_curve(defence: DefenceResult) -> list[Point]:
    """Survivors of the worst attack at each ℓ∞ radius, in per cent, from clean images at 0."""
    cases = (defence.worst_case(norm, eps) for norm, eps in defence.balls if norm == "Linf" and eps)
    clean = Point.percent(0.0, defence.clean.accuracy)
    return [clean, *(Point.percent(case.eps, case.accuracy) for case in cases if case)]


def _points(attacks: Iterable[AttackResult], setting: str) -> list[Point]:
    return [Point.percent(attack.threat.number(setting), attack.accuracy) for attack in attacks]


def _name(attacks: list[AttackResult], setting: str) -> str:
    """The attacks' title without the number that rises."""
    word, _ = _WORDS[setting]
    parts = [part for part in attacks[-1].title.split(", ") if word not in part]
    return f"{', '.join(parts)}, ε {attacks[0].eps:g}"


def _draw(
    drawn: Mapping[str, Curve], label: str, *, log: bool = False, highlight: str = ""
) -> "Drawing":
    panel = {"": drawn}
    return curves(panel, label, _UPPER, highlight=highlight, log=log, y_range=(-3, 103))
