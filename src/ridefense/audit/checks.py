"""Whether the audit can be trusted: properties that sound attacks have (Carlini et al. 2019).

A check that fails says that the attacks are too weak, or that gradients are masked, not that the
defence is good. Where two attacks are compared, it is by the share of draws that each image is
classified right in, and a randomisation test of the pairs says whether the difference is luck.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from ridefense.audit.findings import (
    Attacked,
    Comparison,
    Findings,
    accuracy,
    compare,
    picked,
    worst,
)
from ridefense.describe import Plain

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
    """Ten steps are at least as strong as one of the same gradient and loss."""
    pairs = [
        (many, one)
        for one in findings.subject.attacks
        for many in findings.subject.attacks
        if one.kind == "FGSM" and many.kind == "PGD" and _alike(one, many, {"attack", "steps"})
    ]
    return _ordered("iterative attacks are at least as strong as a single step", pairs)


def vanishing(findings: Findings) -> Check:
    """At ε = 0.5 every image can be made grey, so no defence can do better than guess."""
    name = "accuracy falls to that of a guess as ε grows"
    radius = max(findings.subject.radii, default=0.0)
    if radius < 0.5 or not findings.subject.at(radius):
        return _missing(name, "no attack of ε 0.5 is finished")
    left = accuracy(picked(findings.subject.at(radius)))
    return Check(
        name,
        "failed" if left.interval[0] > findings.chance else "passed",
        {"eps": radius, "accuracy": left.fraction, "n": left.n, "chance": findings.chance},
        f"At ε {radius:g}, where any image can be made grey, {left.fraction:.1%} of {left.n} "
        f"images survive the worst attack; the best guess is right on {findings.chance:.0%}.",
    )


def white_over_black(findings: Findings) -> Check:
    """An attacker with gradients is at least as strong as one without, image by image."""
    pairs = []
    for eps in findings.radii:
        known = findings.subject.at(eps)
        white = [a for a in known if a.is_white]
        black = [a for a in known if not a.is_white]
        if white and black:
            pairs.append((f"ε {eps:g}", compare(picked(white), picked(black))))
    return _judged("the white box is at least as strong as the black boxes, image by image", pairs)


def noise_is_weakest(findings: Findings) -> Check:
    """Every attack is at least as strong as a random point of its ball."""
    case = findings.subject
    found = [
        (attack, noise)
        for eps in findings.radii
        if (noise := case.noise(eps))
        for attack in (*case.at(eps), *case.at(eps, seed_known=True))
    ]
    check = _ordered("no attack is weaker than random noise", found)
    idle = [
        f"{attack.title} at ε {attack.eps:g}"
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
    """A defence that is known to be worthless is found worthless, by these attacks."""
    name = "a defence that is known to be broken breaks"
    bare, broken = findings.undefended, findings.broken
    for eps in bare.radii if broken else ():
        alone, defended = bare.at(eps), broken.at(eps)
        if not alone or not defended or accuracy(worst(alone)).fraction > findings.chance:
            continue
        left = accuracy(worst(defended))
        return Check(
            name,
            "failed" if left.fraction > findings.chance else "passed",
            {"defence": broken.defence, "eps": eps, "accuracy": left.fraction, "n": left.n},
            f"{broken.defence} at ε {eps:g}, the least that breaks the bare classifier: "
            f"{left.fraction:.1%} of {left.n} images survive.",
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


def ladders(attacks: tuple[Attacked, ...], setting: str) -> list[list[Attacked]]:
    """Attacks that differ in one number alone, rising; at least two of each."""
    groups: dict[str, list[Attacked]] = {}
    for attack in attacks:
        if setting in attack.inner and attack.kind != "FGSM":
            groups.setdefault(_but(attack, {setting}), []).append(attack)
    rising = [sorted(group, key=lambda a: a.inner[setting]) for group in groups.values()]
    return [group for group in rising if len(group) > 1]


def convergence(findings: Findings) -> Iterator[str]:
    """Whether spending more would have found more, in a sentence; none where nothing was raised."""
    audited = tuple(a for a in findings.subject.attacks if a.eps in findings.radii)
    raised = [group[-2:] for s in ("steps", "restarts", "eot") for group in ladders(audited, s)]
    gained = [
        (less, more)
        for less, more in raised
        if compare(more.survival, less.survival).gain < LEVEL / len(raised)
    ]
    if not raised:
        return
    told = [
        f"{more.title} at ε {more.eps:g} {less.score.mean.fraction:.1%} to "
        f"{more.score.mean.fraction:.1%}"
        for less, more in gained
    ]
    found = f"more in {len(told)} ({'; '.join(told)}), so more may find more" if told else "no more"
    times = _counted(len(raised), "time")
    yield f"Steps, restarts or draws were raised {times}; the last rise found {found}."


def _ladder(findings: Findings, setting: str) -> list[tuple[Attacked, Attacked]]:
    found = ladders(findings.subject.attacks, setting)
    return [(more, less) for group in found for less, more in pairwise(group)]


def _but(attack: Attacked, left_out: set[str]) -> str:
    """All that decides an attack but some of its settings."""
    own: Plain = {k: v for k, v in attack.inner.items() if k not in left_out}
    elsewhere = attack.details.get("source")
    return json.dumps([attack.settings["knows"], attack.settings["gradient"], elsewhere, own])


def _alike(a: Attacked, b: Attacked, but: set[str]) -> bool:
    """FGSM's one step is ε long, PGD's are shorter: that too is left out."""
    return _but(a, but | {"step_size"}) == _but(b, but | {"step_size"})


def _ordered(name: str, pairs: list[tuple[Attacked, Attacked]]) -> Check:
    """The first of each pair should be at least as strong as the second."""
    return _judged(
        name,
        [
            (f"{a.title} against {b.title} at ε {a.eps:g}", compare(a.survival, b.survival))
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
