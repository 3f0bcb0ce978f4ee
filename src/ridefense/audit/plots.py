"""The curves of an audit: survivors against ε, and whether the attacks have converged."""

from collections import Counter
from collections.abc import Iterable
from functools import partial

from ridefense.audit.checks import ladders
from ridefense.audit.findings import Findings
from ridefense.pages import Figure
from ridefense.pages.drawing import Point, curves
from ridefense.results import AttackResult, DefenceResult, words

_RANGE = (-3, 103)
_UPPER = "accuracy, % (upper bound)"
_WORDS = {"steps": (" steps", "steps"), "eot": ("EOT ", "draws of EOT")}


def over_radius(findings: Findings, defences: Iterable[DefenceResult]) -> list[Figure]:
    """Survivors of the worst attack at each radius: a line for each defence, a panel a norm.

    The point at 0 is the clean images.
    """
    names = named(defences)
    panels: dict[str, dict[str, list[Point]]] = {}
    for norm, _ in findings.balls:
        curves_of = {name: radius_curve(defence, norm) for name, defence in names.items()}
        lines = {name: points for name, points in curves_of.items() if len(points) > 1}
        if lines:
            panels[words.norm(norm)] = lines
    if not panels:
        return []
    subject = next(name for name, defence in names.items() if defence is findings.subject)
    text = (
        f"Images that survive every attack, with 95% intervals; {subject} is the thick line. Each "
        "point is an upper bound, and defences met different numbers of attacks."
    )
    label = "ε in [0, 1] pixels"
    if len(panels) == 1:
        ((norm, lines),) = panels.items()
        panels, label = {"": lines}, f"ε, {norm} in [0, 1] pixels"
    draw = partial(curves, panels, label, _UPPER, highlight=subject, y_range=_RANGE)
    return [Figure("Survivors against ε", draw, text)]


def named(defences: Iterable[DefenceResult]) -> dict[str, DefenceResult]:
    """Defences by their titles, with the folder where several have one title."""
    every = tuple(defences)
    titles = Counter(defence.title for defence in every)
    return {d.title if titles[d.title] == 1 else f"{d.title} ({d.name})": d for d in every}


def convergence(findings: Findings) -> list[Figure]:
    """Accuracy against steps and draws of the same attack, where several were run."""
    attacks = tuple(a for a in findings.subject.attacks if a.threat.ball in findings.balls)
    found = []
    for setting, (_, label) in _WORDS.items():
        drawn = {_name(g, setting): _points(g, setting) for g in ladders(attacks, setting)}
        if drawn:
            found.append(
                Figure(
                    f"Accuracy against {label}",
                    partial(curves, {"": drawn}, label, _UPPER, log=True, y_range=_RANGE),
                )
            )
    return found


def radius_curve(defence: DefenceResult, norm: str = "Linf") -> list[Point]:
    """Survivors of the worst attack at each radius, in per cent, from clean images at 0."""
    cases = (defence.worst_case(*ball) for ball in defence.balls if ball[0] == norm and ball[1])
    clean = Point.percent(0.0, defence.clean.accuracy)
    return [clean, *(Point.percent(case.eps, case.accuracy) for case in cases if case)]


def _points(attacks: Iterable[AttackResult], setting: str) -> list[Point]:
    return [Point.percent(attack.threat.number(setting), attack.accuracy) for attack in attacks]


def _name(attacks: list[AttackResult], setting: str) -> str:
    """The attacks' title without the number that rises."""
    word, _ = _WORDS[setting]
    parts = [part for part in attacks[-1].title.split(", ") if word not in part]
    return f"{', '.join(parts)}, ε {attacks[0].eps:g}"
