"""What an audit found, in words that follow from its records."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ridefense.audit.checks import LEVEL, Check, convergence, failed
from ridefense.audit.findings import (
    Attacked,
    Findings,
    accuracy,
    compare,
    majority,
    picked,
    worst,
)
from ridefense.evaluate import Accuracy
from ridefense.report.paper import Figure, figure
from ridefense.report.tables import UPPER_BOUND, interval, percent
from ridefense.report.words import setting_of

FEW = 20
"""Images below which words like these are not to be trusted."""

Word = Literal["falls", "shows no gain", "bends", "stands so far"]

_MEANINGS: dict[Word, str] = {
    "falls": "no more images survive than a guess gets right",
    "shows no gain": "no more images survive than without it, as far as these images can tell",
    "bends": "more images survive than without it, fewer than are right unattacked",
    "stands so far": "no attack tried costs it a significant number of images",
}


@dataclass(frozen=True)
class Verdict:
    """On one radius.

    Attributes:
        eps: the radius, ℓ∞.
        word: falls, shows no gain, bends or stands so far.
        left: survivors of the attack that is worst for each image, see `findings.picked`.
        least: the plain minimum over attacks of the share of draws, which luck makes lower.
        majority: images of which the draws' vote is right under every attack.
        known: survivors where the attacker knows the purifier's seed; None if not attacked so.
        strongest: the attack with the lowest accuracy.
        alone: survivors without a defence.
        sentences: the whole of it for a reader.
    """

    eps: float
    word: Word
    left: Accuracy
    least: Accuracy
    majority: Accuracy
    known: Accuracy | None
    strongest: Attacked
    alone: Accuracy | None
    sentences: tuple[str, ...]


def verdicts(findings: Findings) -> list[Verdict]:
    """One for each audited radius at which an attack is finished."""
    return [_verdict(findings, eps) for eps in findings.radii if findings.subject.at(eps)]


def headline(findings: Findings, found: list[Verdict], checks: list[Check]) -> list[str]:
    """What stands at the top of the page: the answer, then what it is worth."""
    name = findings.subject.defence
    told = [
        f"{name} {v.word} at ε {v.eps:g}: {_share(v.left)} survive the best known attack."
        for v in sorted(found, key=lambda v: (v.left.fraction, v.eps))
    ] or [f"Nothing is known of {name} yet: no attack is finished."]
    n = findings.subject.clean.score.mean.n
    if found and n < FEW:
        told.append(f"{n} images are too few for a verdict: see how wide the intervals are.")
    broken = list(failed(checks))
    if broken:
        names = "; ".join(check.name for check in broken)
        told.append(
            f"{len(broken)} of {len(checks)} sanity checks failed ({names}): the attacks are not "
            "as strong as they could be, and the true figures may be lower."
        )
    open_checks = [check for check in checks if check.outcome == "not run"]
    if open_checks:
        told.append(f"{len(open_checks)} of {len(checks)} sanity checks could not be decided.")
    told += convergence(findings)
    missing, planned = len(findings.subject.unfinished), len(findings.subject.attacks)
    if missing:
        told.append(f"{missing} of {missing + planned} planned attacks on it are not finished.")
    told.append(f"Every figure is an {UPPER_BOUND}.")
    return told


def _verdict(findings: Findings, eps: float) -> Verdict:
    case, bare = findings.subject, findings.undefended
    attacks, known = case.at(eps), case.at(eps, seed_known=True)
    survivors = picked(attacks)
    left = accuracy(survivors)
    alone = worst(bare.at(eps))
    strongest = min(attacks, key=lambda a: a.score.mean.fraction)
    word = _word(findings, survivors, alone)
    sentences = [
        f"{case.defence} {word} at ε {eps:g}: {_MEANINGS[word]}.",
        f"{_share(left)} survive the worst of {len(attacks)} attacks on each image; clean it is "
        f"{_share(case.clean.score.mean)}.",
        f"The strongest attack by itself, {strongest.title}, leaves "
        f"{_share(strongest.score.mean)}, {_share(strongest.rounded)} when its images are rounded "
        "to 8 bits.",
    ]
    if known:
        sentences.append(
            f"An attacker who knows the purifier's seed leaves {_share(accuracy(worst(known)))}."
        )
    sentences += _beside(findings, eps, survivors, alone)
    sentences += _claim(findings, eps, left)
    return Verdict(
        eps=eps,
        word=word,
        left=left,
        least=accuracy(worst(attacks)),
        majority=accuracy(majority(attacks)),
        known=accuracy(worst(known)) if known else None,
        strongest=strongest,
        alone=accuracy(alone) if alone else None,
        sentences=tuple(sentences),
    )


def _word(findings: Findings, survivors: dict[int, float], alone: dict[int, float]) -> Word:
    if accuracy(survivors).fraction <= findings.chance:
        return "falls"
    if alone and compare(alone, survivors).gain >= LEVEL:
        return "shows no gain"
    if compare(survivors, findings.subject.clean.survival).gain < LEVEL:
        return "bends"
    return "stands so far"


def _beside(
    findings: Findings, eps: float, survivors: dict[int, float], alone: dict[int, float]
) -> Iterator[str]:
    """Against no defence, the best of the other purifiers, and each hardened classifier."""
    name = findings.subject.defence
    if alone:
        yield f"Without a defence {_share(accuracy(alone))} survive."
    own = len(findings.subject.at(eps))
    filters = [(case, picked(case.at(eps))) for case in findings.beside if case.at(eps)]
    best = max(filters, key=lambda pair: accuracy(pair[1]).fraction, default=None)
    trained = [(case, picked(case.at(eps))) for case in findings.hardened if case.at(eps)]
    # The best of several is a choice between them: it counts as so many comparisons.
    level = LEVEL / max(1, len(filters) + len(trained))
    for case, others in ([best] if best else []) + trained:
        yield (
            f"{name} {_rank(survivors, others, level)} {case.defence}, which leaves "
            f"{_share(accuracy(others))} ({own} attacks against {len(case.at(eps))}) and is right "
            f"on {percent(case.clean.score.mean.fraction)} of the clean images."
        )


def _rank(survivors: dict[int, float], others: dict[int, float], level: float) -> str:
    against = compare(survivors, others)
    if against.gain < level:
        return "does worse than"
    return "does better than" if against.p < level else "is not shown to differ from"


def claim(findings: Findings, eps: float) -> Figure | None:
    """What the paper states for the audited defence, by its schedule, at this radius."""
    settings = findings.subject.run.settings
    if settings["preset"] not in (None, "paper"):
        return None
    purifier = settings["purifier"]
    return figure(
        settings["dataset"]["name"],
        purifier["type"],
        setting_of(purifier),
        "BPDA",
        "Linf",
        eps,
    )


def _claim(findings: Findings, eps: float, left: Accuracy) -> Iterator[str]:
    stated = claim(findings, eps)
    if stated is None:
        return
    own = [a for a in findings.subject.at(eps) if a.title == "BPDA, 10 steps"]
    if own:
        yield (
            f"The paper claims {percent(stated.accuracy)} under BPDA of 10 steps ({stated.table}); "
            f"that attack leaves {_share(own[0].score.mean)} here."
        )
    low, high = left.interval
    if high < stated.accuracy:
        yield f"The claim of {percent(stated.accuracy)} does not stand against stronger attacks."
    elif low <= stated.accuracy:
        yield f"The claim of {percent(stated.accuracy)} is not refuted by {left.n} images."


def _share(found: Accuracy) -> str:
    """As "87.5% [71.0, 96.5] of 32"."""
    return f"{percent(found.fraction)} {interval(found)} of {found.n}"
