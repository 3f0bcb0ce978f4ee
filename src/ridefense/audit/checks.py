"""Whether the audit can be trusted: properties that sound attacks have (Carlini et al. 2019).

A check that fails says that the attacks are too weak, or that gradients are masked, not that the
defence is good. Where two attacks are compared, it is by the share of draws that each image is
classified right in, and a randomisation test of the pairs says whether the difference is luck.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from ridefense.audit.findings import Findings
from ridefense.results import AttackResult, Comparison, WorstCase, compare

Outcome = Literal["passed", "failed", "not run"]

LEVEL = 0.05
"""Of the tests, divided by how many a check makes (Bonferroni)."""


@dataclass(frozen=True)
class Check:
    """A sanity check and how it came out.

    Attributes:
        name: what sound attacks do.
        outcome: "not run" where the attacks that it needs are not finished, or the images are too
            few to fail it.
        numbers: what it was decided by.
        sentence: the same for a reader.
    """

    name: str
    outcome: Outcome
    numbers: dict[str, Any]
    sentence: str


def sanity(findings: Findings) -> list[Check]:
    """All checks of an audit, in the order of rule 7."""
    return [check(findings) for check in _CHECKS]


def iterative(findings: Findings) -> Check:
    """Ten steps are at least as strong as one step of the same gradient and loss."""
    attacks = findings.subject.attacks
    pairs = [
        (many, one)
        for one in attacks
        for many in attacks
        if one.threat.type == "FGSM" and many.threat.type == "PGD" and _differ_in_steps(one, many)
    ]
    return _ordered("iterative attacks are at least as strong as a single step", pairs)


def vanishing(findings: Findings) -> Check:
    """At ℓ∞ 0.5 every image can be made grey, so that no defence does better than a guess."""
    name = "accuracy falls to that of a guess as ε grows"
    radius = max((eps for norm, eps in findings.subject.balls if norm == "Linf"), default=0.0)
    case = findings.subject.worst_case("Linf", radius)
    if radius < 0.5 or case is None:
        return _missing(name, "no attack of ℓ∞ 0.5 is finished")
    left = case.accuracy
    return Check(
        name,
        "failed" if left.interval[0] > findings.chance else "passed",
        {"eps": radius, "accuracy": left.fraction, "n": left.n, "chance": findings.chance},
        f"At {case.ball}, where any image can be made grey, {left.fraction:.1%} of {left.n} "
        f"images survive the worst attack; the best guess is right on {findings.chance:.0%}.",
    )


def white_over_black(findings: Findings) -> Check:
    """Attacks with gradients together are at least as strong as those without, image by image."""
    pairs = []
    for ball in findings.balls:
        attacks = findings.subject.at(*ball)
        white = tuple(attack for attack in attacks if attack.threat.is_white_box)
        black = tuple(attack for attack in attacks if not attack.threat.is_white_box)
        if white and black:
            known, blind = (WorstCase(findings.subject, part) for part in (white, black))
            pairs.append((known.ball, compare(known.survival, blind.survival)))
    return _judged("the white box is at least as strong as the black boxes, image by image", pairs)


def noise_is_weakest(findings: Findings) -> Check:
    """Every attack is at least as strong as a random point of its ball."""
    subject = findings.subject
    found = [
        (attack, noise)
        for ball in findings.balls
        if (noise := subject.noise(*ball))
        for attack in (*subject.at(*ball), *subject.at(*ball, seed_known=True))
    ]
    check = _ordered("no attack is weaker than random noise", found)
    idle = [
        attack.full_title
        for attack, noise in found
        if compare(attack.survival, noise.survival).gain >= LEVEL
    ]
    told = check.sentence
    if idle:
        told += (
            f" Not shown to be stronger than it: {len(idle)} of {len(found)}: {'; '.join(idle)}."
        )
    return replace(check, numbers=check.numbers | {"idle": idle}, sentence=told)


def more_steps(findings: Findings) -> Check:
    """More steps of the same attack are never weaker beyond noise."""
    return _ordered("more steps are never weaker", _ladder(findings, "steps"))


def more_restarts(findings: Findings) -> Check:
    """More random starts are never weaker beyond noise."""
    return _ordered("more restarts are never weaker", _ladder(findings, "restarts"))


def more_draws(findings: Findings) -> Check:
    """More draws of EOT are never weaker beyond noise."""
    return _ordered("more draws of EOT are never weaker", _ladder(findings, "eot"))


def broken_is_broken(findings: Findings) -> Check:
    """A defence that is known to be broken is found broken by these attacks."""
    name = "a defence that is known to be broken breaks"
    bare, broken = findings.undefended, findings.broken
    for ball in bare.balls if broken else ():
        alone, case = bare.worst_case(*ball), broken.worst_case(*ball) if broken else None
        if not alone or not case or alone.minimum.fraction > findings.chance:
            continue
        left = case.minimum
        return Check(
            name,
            "failed" if left.fraction > findings.chance else "passed",
            {
                "defence": case.defence.title,
                "eps": case.eps,
                "accuracy": left.fraction,
                "n": left.n,
            },
            f"{case.defence.title} at {case.ball}, the smallest ball in which the classifier "
            f"without a defence is broken: {left.fraction:.1%} of {left.n} images survive.",
        )
    return _missing(name, "no radius is finished at which the bare classifier is broken")


_CHECKS: tuple[Callable[[Findings], Check], ...] = (
    iterative,
    vanishing,
    white_over_black,
    noise_is_weakest,
    more_steps,
    more_restarts,
    more_draws,
    broken_is_broken,
)


def ladders(attacks: Iterable[AttackResult], setting: str) -> list[list[AttackResult]]:
    """Groups of attacks that differ in one number alone, rising; at least two in each."""
    groups: dict[str, list[AttackResult]] = {}
    for attack in attacks:
        if setting in attack.threat.crafted and attack.threat.type != "FGSM":
            groups.setdefault(_but(attack, {setting}), []).append(attack)
    rising = [sorted(group, key=lambda a: a.threat.number(setting)) for group in groups.values()]
    return [group for group in rising if len(group) > 1]


def convergence(findings: Findings) -> Iterator[str]:
    """Whether more steps, restarts or draws would find more; nothing where none were raised."""
    audited = [a for a in findings.subject.attacks if a.threat.ball in findings.balls]
    raised = [group[-2:] for s in ("steps", "restarts", "eot") for group in ladders(audited, s)]
    gained = [
        (less, more)
        for less, more in raised
        if compare(more.survival, less.survival).gain < LEVEL / len(raised)
    ]
    if not raised:
        return
    told = [
        f"{more.full_title} {less.accuracy.fraction:.1%} to {more.accuracy.fraction:.1%}"
        for less, more in gained
    ]
    found = f"more in {len(told)} ({'; '.join(told)}), so more may find more" if told else "no more"
    times = _counted(len(raised), "time")
    yield f"Steps, restarts or draws were raised {times}; the last rise found {found}."


def _ladder(findings: Findings, setting: str) -> list[tuple[AttackResult, AttackResult]]:
    found = ladders(findings.subject.attacks, setting)
    return [(more, less) for group in found for less, more in pairwise(group)]


def _but(attack: AttackResult, left_out: set[str]) -> str:
    """All settings of an attack but some, as a key."""
    threat = attack.threat
    own = {name: value for name, value in threat.crafted.items() if name not in left_out}
    return json.dumps([threat.knows, threat.gradient, threat.source, own], sort_keys=True)


def _differ_in_steps(single: AttackResult, many: AttackResult) -> bool:
    """Whether two attacks are alike but for their class and the number and length of steps."""
    apart = {"type", "steps", "step_size"}
    return _but(single, apart) == _but(many, apart)


def _ordered(name: str, pairs: list[tuple[AttackResult, AttackResult]]) -> Check:
    """The first of each pair should be at least as strong as the second."""
    return _judged(
        name,
        [
            (f"{a.title} against {b.title} at {a.ball}", compare(a.survival, b.survival))
            for a, b in pairs
        ],
    )


def _judged(name: str, pairs: list[tuple[str, Comparison]]) -> Check:
    if not pairs:
        return _missing(name, "the attacks that it compares are not finished")
    threshold = LEVEL / len(pairs)
    images = min(c.wins + c.losses + c.ties for _, c in pairs)
    if 0.5**images >= threshold:
        return _missing(name, f"{images} images are too few to tell in {len(pairs)} comparisons")
    weaker = [(title, c) for title, c in pairs if c.p < threshold]
    title, least = min(weaker or pairs, key=lambda pair: pair[1].p)
    told = (
        f"{title}: worse for the image on {least.wins} images, better on {least.losses}, as bad on "
        f"{least.ties} (p = {least.p:.2g})"
    )
    made = _counted(len(pairs), "comparison")
    sentence = (
        f"{len(weaker)} of {made} the wrong way round; {told}."
        if weaker
        else f"None of {made} is significantly the wrong way round at "
        f"{LEVEL:g} / {len(pairs)}; the nearest to it is {told}."
    )
    numbers = {"comparisons": len(pairs), "failed": len(weaker), "p": least.p}
    counts = {"wins": least.wins, "losses": least.losses, "ties": least.ties}
    return Check(name, "failed" if weaker else "passed", numbers | counts, sentence)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _missing(name: str, why: str) -> Check:
    return Check(name, "not run", {}, f"Not decided: {why}.")


def failed(checks: list[Check]) -> Iterator[Check]:
    """Those that found the audit at fault."""
    return (check for check in checks if check.outcome == "failed")
