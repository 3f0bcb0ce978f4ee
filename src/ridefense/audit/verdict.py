"""What an audit concludes, in words that follow from its records."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ridefense.audit.checks import LEVEL, Check, convergence, failed
from ridefense.audit.findings import Findings
from ridefense.pages import interval, percent
from ridefense.report.tables import UPPER_BOUND
from ridefense.results import Accuracy, AttackResult, Stated, WorstCase, compare, stated
from ridefense.results.noting import could_not_work, no_better_than_a_guess
from ridefense.results.recorded import Ball
from ridefense.results.words import kind, setting_of

FEW = 20
"""With fewer images than this there is a warning that intervals are wide."""

Conclusion = Literal[
    "no robustness left",
    "no gain over the undefended classifier",
    "partly broken",
    "not broken by the attacks tried",
]

_MEANINGS: dict[Conclusion, str] = {
    "no robustness left": "no more images survive than a constant guess gets right",
    "no gain over the undefended classifier": "it is not shown that more images survive than "
    "without the defence",
    "partly broken": "more images survive than without the defence, and fewer than are right "
    "without an attack",
    "not broken by the attacks tried": "no attack costs it a significant number of images",
}


@dataclass(frozen=True)
class Verdict:
    """What the attacks of one ball left of the audited defence.

    Attributes:
        conclusion: one of four.
        case: the attacks by which each image is judged.
        known: those of an attacker who knows the purifier's seed; None if there were none.
        alone: the classifier without the defence; None if it was not attacked there.
        sentences: the whole verdict for a reader.
    """

    conclusion: Conclusion
    case: WorstCase
    known: WorstCase | None
    alone: WorstCase | None
    sentences: tuple[str, ...]

    @property
    def ball(self) -> str:
        """As "ℓ∞ 0.1"."""
        return self.case.ball

    @property
    def left(self) -> Accuracy:
        """Survivors of the attack that is worst for each image, see `statistics.picked`."""
        return self.case.accuracy

    @property
    def strongest(self) -> AttackResult:
        """The attack with the lowest accuracy by itself."""
        return self.case.strongest


def verdicts(findings: Findings) -> list[Verdict]:
    """One for each audited ball in which an attack is finished."""
    cases = (findings.subject.worst_case(*ball) for ball in findings.balls)
    return [_verdict(findings, case) for case in cases if case]


def answers(findings: Findings, found: list[Verdict]) -> list[str]:
    """The top of the page: what makes all of it worthless, then each verdict, the worst first."""
    name = findings.subject.title
    told = [
        f"{name} at {v.ball}: {v.conclusion}. {_share(v.left)} survive the strongest attack on "
        f"each image.{_unsearched(v.case)}"
        for v in sorted(found, key=lambda v: (v.left.fraction, v.case.eps))
    ] or [f"No attack on {name} is finished, so there is no verdict yet."]
    guesses = (line for d in findings.defences for line in no_better_than_a_guess(d))
    return [*guesses, *told]


def _unsearched(case: WorstCase) -> str:
    told = could_not_work(case.attacks, case.unsearched)
    return f" All attacks {told}" if told else ""


def caveats(findings: Findings, found: list[Verdict], checks: list[Check]) -> list[str]:
    """How far the verdicts can be trusted."""
    told = []
    n = findings.subject.clean.accuracy.n
    if found and n < FEW:
        told.append(f"{n} images are too few for a verdict: the intervals are wide.")
    broken = list(failed(checks))
    if broken:
        names = "; ".join(check.name for check in broken)
        told.append(
            f"{len(broken)} of {len(checks)} sanity checks failed ({names}): stronger attacks "
            "are possible, and the true figures may be lower."
        )
    undecided = [check for check in checks if check.outcome == "not run"]
    if undecided:
        told.append(f"{len(undecided)} of {len(checks)} sanity checks could not be decided.")
    told += convergence(findings)
    missing, finished = len(findings.subject.unfinished), len(findings.subject.attacks)
    if missing:
        told.append(f"{missing} of {missing + finished} planned attacks on it are not finished.")
    told.append(f"Every figure is an {UPPER_BOUND}.")
    return told


def _verdict(findings: Findings, case: WorstCase) -> Verdict:
    subject, ball = findings.subject, (case.norm, case.eps)
    known = subject.worst_case(*ball, seed_known=True)
    alone = findings.undefended.worst_case(*ball)
    strongest = case.strongest
    conclusion = _conclusion(findings, case, alone)
    sentences = [
        f"{subject.title} at {case.ball}: {conclusion}. That means: {_MEANINGS[conclusion]}.",
        f"{_share(case.accuracy)} survive the strongest of {len(case.attacks)} attacks on each "
        f"image; clean accuracy is {_share(subject.clean.accuracy)}.",
        f"The strongest single attack, {strongest.title}, leaves {_share(strongest.accuracy)}"
        + (
            f", and {_share(strongest.rounded)} when its images are rounded to 8 bits."
            if strongest.rounded
            else "."
        ),
    ]
    if known:
        sentences.append(
            f"An attacker who knows the purifier's seed leaves {_share(known.accuracy)}."
        )
    sentences += _beside(findings, case, alone)
    sentences += _claim(findings, case)
    return Verdict(conclusion, case, known, alone, tuple(sentences))


def _conclusion(findings: Findings, case: WorstCase, alone: WorstCase | None) -> Conclusion:
    if case.accuracy.fraction <= findings.chance:
        return "no robustness left"
    if alone and compare(alone.survival, case.survival).gain >= LEVEL:
        return "no gain over the undefended classifier"
    if compare(case.survival, findings.subject.clean.survival).gain < LEVEL:
        return "partly broken"
    return "not broken by the attacks tried"


def _beside(findings: Findings, case: WorstCase, alone: WorstCase | None) -> Iterator[str]:
    """Against no defence, the best of the other purifiers, and each hardened classifier."""
    if alone:
        yield f"Without a defence {_share(alone.accuracy)} survive."
    ball = case.norm, case.eps
    filters = [other for d in findings.beside if (other := d.worst_case(*ball))]
    best = max(filters, key=lambda other: other.accuracy.fraction, default=None)
    trained = [other for d in findings.hardened if (other := d.worst_case(*ball))]
    # The best of several was chosen among them, which counts as that many comparisons.
    level = LEVEL / max(1, len(filters) + len(trained))
    for other in ([best] if best else []) + trained:
        yield (
            f"{case.defence.title} {_rank(case, other, level)} {other.defence.title}, which leaves "
            f"{_share(other.accuracy)} ({len(case.attacks)} attacks against {len(other.attacks)}) "
            f"and has a clean accuracy of {percent(other.defence.clean.accuracy.fraction)}."
        )


def _rank(case: WorstCase, other: WorstCase, level: float) -> str:
    against = compare(case.survival, other.survival)
    if against.gain < level:
        return "is less robust than"
    return "is more robust than" if against.p < level else "is not shown to differ from"


def claim(findings: Findings, ball: Ball) -> Stated | None:
    """What the paper states for the audited defence at its own schedule, under BPDA."""
    subject = findings.subject
    if subject.preset not in (None, "paper"):
        return None
    purifier = subject.purifier
    case = subject.dataset["name"], kind(purifier), setting_of(purifier)
    return stated(*case, "BPDA", *ball)


def _claim(findings: Findings, case: WorstCase) -> Iterator[str]:
    said = claim(findings, (case.norm, case.eps))
    if said is None:
        return
    own = [attack for attack in case.attacks if attack.name == "BPDA" and not attack.departures]
    if own:
        yield (
            f"The paper claims {percent(said.accuracy)} under BPDA of 10 steps ({said.table}); "
            f"that attack leaves {_share(own[0].accuracy)} here."
        )
    low, high = case.accuracy.interval
    if high < said.accuracy:
        yield f"The claim of {percent(said.accuracy)} does not hold against stronger attacks."
    elif low <= said.accuracy:
        yield f"{case.accuracy.n} images do not refute the claim of {percent(said.accuracy)}."


def _share(found: Accuracy) -> str:
    """As "87.5% [71.0, 96.5] of 32"."""
    return f"{percent(found.fraction)} {interval(found)} of {found.n}"
