"""The next attacks in line, where those that were run show indicators of failure on survivors.

What an indicator calls for follows Pintor et al. (NeurIPS 2022): another loss, draws that are
averaged, a smoothed gradient, a transfer from the static classifier, more steps, and attacks that
see outputs or decisions alone. An answer is an ordinary attack, run on all images.
"""

from collections.abc import Iterator
from dataclasses import replace

from ridefense.attacks import APGD, SPSA, Iterative, RayS, Square, dlr, margin
from ridefense.attacks.norms import NormName
from ridefense.attacks.objective import EOT
from ridefense.audit.budgets import Budget
from ridefense.audit.threats import averaged, in_order, suited
from ridefense.evaluate import Threat, identity
from ridefense.evaluate.evaluation import Evaluation
from ridefense.filters import Unchanged
from ridefense.gradients import Identity, best_gradient
from ridefense.results import AttackResult, DefenceResult

ROUNDS = 2
"""How often answers are given: to the planned attacks, and to the answers."""

_MORE_STEPS, _MORE_DRAWS = 4, 4
_SMOOTH = (0.03, 0.1)
"""Lengths of finite differences, in pixels, over which a shattered gradient is smoothed."""

_USELESS = (
    *("no gradient", "squashed", "estimated", "relaxed", "not finite", "constant", "downhill"),
    "not moved",
)
"""Indicators of a gradient that cannot be used as it is."""


def answers(
    result: DefenceResult, evaluation: Evaluation, ball: tuple[NormName, float], budget: Budget
) -> tuple[Threat, ...]:
    """The attacks that the indicators of one ball call for; those that were run are left out.

    Of the attacks through one gradient, the one of most steps speaks, and of its rows those of the
    images that survive all attacks.

    Args:
        result: what was found, with the attacks of `evaluation` among its own.
        evaluation: what was run last.
        ball: norm and radius.
        budget: of the audit.
    """
    case = result.worst_case(*ball)
    if case is None or not budget.answers:
        return ()
    survivors = {image for image, share in case.survival.items() if share > 0}
    known = {threat.key for threat in evaluation.threats}
    known |= {identity.key(threat) for threat in result.run.attacks.values()}
    found: dict[str, Threat] = {}
    for attack in _speakers(result, ball):
        shown = indicators(attack, survivors)
        declared = next((t for t in evaluation.threats if t.key == _key(attack)), None)
        for answer in _answers(shown, declared, evaluation, ball, budget):
            found.setdefault(answer.key, answer)
    if evaluation.classifier_treatment.randomised:
        found = {threat.key: threat for threat in map(averaged, found.values())}
    new = [threat for key, threat in found.items() if key not in known]
    return in_order(list(suited(new, evaluation.classes)), evaluation.purifier)


def indicators(attack: AttackResult, images: set[int]) -> set[str]:
    """The indicators that an attack shows on some images."""
    return {
        name
        for image, rows in attack.rows.items()
        for row in rows
        if image in images and row.search is not None
        for name in row.search.failures(attack.survival[image])
    }


def _speakers(result: DefenceResult, ball: tuple[NormName, float]) -> Iterator[AttackResult]:
    """Of each gradient the attack that took most steps."""
    groups: dict[str, list[AttackResult]] = {}
    for attack in result.at(*ball):
        if attack.threat.asks == "gradients" and _steps(attack):
            groups.setdefault(str(attack.threat.gradient), []).append(attack)
    yield from (max(group, key=_steps) for group in groups.values())


def _steps(attack: AttackResult) -> int:
    searches = (row.search for rows in attack.rows.values() for row in rows)
    return max((search.steps for search in searches if search is not None), default=0)


def _key(attack: AttackResult) -> str:
    return identity.key(attack.defence.run.attacks[attack.label])


def _answers(
    shown: set[str],
    declared: Threat | None,
    evaluation: Evaluation,
    ball: tuple[NormName, float],
    budget: Budget,
) -> Iterator[Threat]:
    (norm, eps), purifier = ball, evaluation.purifier
    bare = isinstance(purifier, Unchanged)
    asked = None if bare else Identity()
    draws = EOT * _MORE_DRAWS if evaluation.is_randomised or "unrelated" in shown else 1
    if not shown.isdisjoint(_USELESS):
        for loss in (margin, dlr):
            transferred = APGD(eps=eps, norm=norm, loss=loss)
            yield Threat(attack=transferred)  # from the static classifier
            if not bare:
                yield Threat(attack=replace(transferred, eot=draws, steps=40), gradient=asked)
        yield Threat(attack=RayS(eps=eps, norm=norm, queries=budget.answers), gradient=asked)
        yield Threat(attack=Square(eps=eps, norm=norm, queries=budget.answers), gradient=asked)
    if not shown.isdisjoint({*_USELESS, "unrelated"}):
        for delta in _SMOOTH:
            smooth = SPSA(eps=eps, norm=norm, delta=delta, directions=4 * budget.directions)
            yield Threat(attack=replace(smooth, steps=20), gradient=asked)
    if "unrelated" in shown:
        for gradient in {g.name: g for g in (Identity(), best_gradient(purifier))}.values():
            more = APGD(eps=eps, norm=norm, loss=margin, eot=draws, steps=40)
            yield Threat(attack=more, gradient=None if bare else gradient)
    if declared is not None and isinstance(declared.attack, Iterative):
        if "rising" in shown:
            longer = replace(declared.attack, steps=_MORE_STEPS * declared.attack.steps)
            yield replace(declared, attack=longer)
        if "lost" in shown:
            kept = APGD(eps=eps, norm=norm, loss=margin, eot=max(declared.attack.eot, 1))
            yield replace(declared, attack=kept)
