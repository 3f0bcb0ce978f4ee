"""The audit's pages, from its records alone."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ridefense.attacks.base import Cost
from ridefense.attacks.diagnostics import FAILURES
from ridefense.audit.checks import Check, Outcome, sanity
from ridefense.audit.examination import Examination
from ridefense.audit.findings import Findings, gather, same
from ridefense.audit.plots import convergence, over_radius
from ridefense.audit.verdict import Verdict, answers, caveats, verdicts
from ridefense.pages import (
    NOTHING,
    Block,
    Cell,
    Column,
    Document,
    Link,
    Section,
    Table,
    Text,
    made_by,
    number,
    percent,
    seconds,
    share,
)
from ridefense.pages import write as write_document
from ridefense.pages.cells import Tone
from ridefense.report.page import PAGE as RUN
from ridefense.report.page import has_images, images_link, run_page, write_images
from ridefense.report.tables import GRAY_BOX, UPPER_BOUND
from ridefense.results import AttackResult, DefenceResult, WorstCase, notes, words
from ridefense.results.noting import NOTES

PAGE = "audit"
"""Name of the audit's page, without a suffix."""


@dataclass(frozen=True)
class AuditResult:
    """What an audit found and what follows from it.

    Attributes:
        findings: the records.
        checks: whether the attacks can be trusted.
        verdicts: one for each audited radius.
        answers: the verdicts in a sentence each; warnings stand before them.
        caveats: how far the verdicts can be trusted.
    """

    findings: Findings
    checks: list[Check]
    verdicts: list[Verdict]
    answers: list[str]
    caveats: list[str]

    @property
    def headline(self) -> list[str]:
        """The answers, then the caveats."""
        return [*self.answers, *self.caveats]


def conclude(findings: Findings) -> AuditResult:
    """The checks and verdicts of some findings."""
    checks, found = sanity(findings), verdicts(findings)
    return AuditResult(
        findings, checks, found, answers(findings, found), caveats(findings, found, checks)
    )


def write(folder: str | os.PathLike[str]) -> AuditResult:
    """Write audit.html and audit.md into an audit's folder, and the pages of its defences.

    Each defence has a page in its folder, each attack on the audited one a page of its images;
    these are HTML alone.

    Raises:
        InputError: where it is not an audit's folder, nothing in it is finished, or an image's
            file is damaged.
        RideError: where the folder cannot be written to.
    """
    folder = Path(folder)
    result = conclude(gather(folder))
    page, findings = compose(result), result.findings
    up = Link(f"../{PAGE}", page.title)
    for defence in shown(findings):
        own = defence is findings.subject
        document = run_page(defence, (up,), attack_pages=own)
        write_document(document, folder / defence.name, RUN, ("html",))
        if own:
            write_images(defence.every, folder / defence.name, up)
    write_document(page, folder, PAGE)
    return result


def compose(result: AuditResult) -> Document:
    """The audit's page: the verdict, the picture, the tables."""
    findings, subject = result.findings, result.findings.subject
    defences = shown(findings)
    blocks: list[Block] = [
        Text(tuple(result.answers), "answer"),
        *over_radius(findings, defences),
        Section("How far this can be trusted", (Text(tuple(result.caveats), "list"),)),
        worst_cases(findings, defences),
    ]
    if findings.examined is not None:
        blocks.append(Section("Before the attacks", (Text(_examined(findings.examined), "list"),)))
    if result.verdicts:
        blocks.append(Section("Verdict at each radius", tuple(_explained(result.verdicts))))
    blocks += [*_by_ball(findings), _checks(result.checks)]
    if figures := convergence(findings):
        blocks.append(Section("Convergence", tuple(figures)))
    blocks.append(_costs(defences))
    if missing := tuple(_missing(defences)):
        blocks.append(Section("What is missing", (Text(missing, "list"),)))
    if told := notes(attack for defence in defences for attack in defence.attacks):
        blocks.append(Section(NOTES, (Text(tuple(told), "list"),)))
    blocks.append(Section("How it was measured", (Text(tuple(_setting(findings)), "list"),)))
    return Document(
        f"Audit of {subject.title}",
        tuple(blocks),
        provenance=made_by(defence.run for defence in defences),
    )


def _examined(examination: Examination) -> tuple[str, ...]:
    """What was found before the attacks, a line each."""
    told = tuple(finding.sentence for finding in examination.findings)
    return told or ("The defence and the classifier are what they say, as far as was looked.",)


def _explained(found: list[Verdict]) -> Iterator[Section]:
    for verdict in found:
        yield Section(verdict.ball, (Text(verdict.sentences, "list"),))


def shown(findings: Findings) -> tuple[DefenceResult, ...]:
    """The defences of the page; one that stands beside and is the audited one itself is not."""
    subject = findings.subject
    return tuple(d for d in findings.defences if d is subject or not same(d, subject))


def _setting(findings: Findings) -> Iterator[str]:
    subject, settings = findings.subject, findings.subject.run.settings
    yield f"Defence: {words.schedule(subject.purifier, subject.preset)}."
    yield (
        f"Images: n = {subject.declared} of {subject.images}, drawn with seed "
        f"{subject.dataset['image_seed']}; true labels."
    )
    yield (
        f"Classifier: {subject.classifier} (weights {settings['classifier']['weights']}); ε is in "
        "[0, 1] pixels."
    )
    yield (
        f"Each final image is classified in {settings['draws']} fresh draws of the defence, and in "
        "one draw where the attacker knows its seed."
    )
    yield "Brackets: 95% Clopper-Pearson interval, in per cent."
    yield "Seconds are wall time for one image, its part of a batch."


def worst_cases(findings: Findings, defences: tuple[DefenceResult, ...]) -> Table:
    """What is left of each defence at each audited ball."""
    cases = (d.worst_case(*ball) for ball in findings.balls for d in defences)
    columns = (
        "Ball",
        "Defence",
        Column("n", "number"),
        Column("Clean", "number"),
        Column("Picked", "interval"),
        Column("Minimum", "number"),
        Column("Majority", "number"),
        Column("Seed known", "number"),
        Column("Attacks", "number"),
    )
    return Table(
        "Worst case of each image",
        columns,
        [_worst_case(case) for case in cases if case],
        f"Survivors of the attack that is worst for each image; {UPPER_BOUND}. Picked: all draws "
        "but one choose the attack and that one scores it, so luck does not count. Minimum: the "
        "least share of draws over attacks, which luck lowers. Majority: images of which the "
        "draws' vote is right under every attack.",
    )


def _worst_case(case: WorstCase) -> list[str | Cell]:
    known = case.defence.worst_case(case.norm, case.eps, seed_known=True)
    return [
        Cell(case.ball),
        Cell(case.defence.title, link=Link(f"{case.defence.name}/{RUN}", html_only=True)),
        number(case.accuracy.n),
        _percent(case.defence.clean.accuracy.fraction),
        share(case.accuracy),
        _percent(case.minimum.fraction),
        _percent(case.majority.fraction),
        _percent(known.accuracy.fraction) if known else NOTHING,
        number(len(case.attacks)),
    ]


def _by_ball(findings: Findings) -> Iterator[Table]:
    subject = findings.subject
    columns = (
        "Attack",
        "Knows",
        Column("Robust ± sd", "interval"),
        Column("Majority", "number"),
        Column("Worst draw", "number"),
        Column("8 bits", "number"),
        Column("s/image", "number"),
    )
    counted = tuple(Column(name, "number") for name in ("Purified", "Forward", "Backward"))
    indicators = (Column("Indicators of failure"),)
    for ball in findings.balls:
        attacks = [*subject.at(*ball), *subject.at(*ball, seed_known=True)]
        attacks.sort(key=lambda attack: attack.accuracy.fraction)
        noise = subject.noise(*ball)
        shown = [*attacks, *([noise] if noise else [])]
        are_counted = any(attack.cost for attack in shown)
        have_failed = any(attack.failures for attack in shown)
        told = "The strongest first."
        if any(map(has_images, attacks)):
            told += " An attack's name leads to its images."
        if are_counted:
            told += (
                " Purified, forward, backward: how often an image was purified, and passed through "
                "the classifier, by the attack."
            )
        if have_failed:
            told += f" Indicators of failure, in how many rows: {_meanings(shown)}."
        yield Table(
            f"{subject.title} at {words.ball(*ball)}, attack by attack",
            (*columns, *(indicators if have_failed else ()), *(counted if are_counted else ())),
            [
                [
                    *_attack(attack),
                    *([_failures(attack)] if have_failed else []),
                    *(_asked(attack.cost) if are_counted else []),
                ]
                for attack in shown
            ],
            told,
        )


def _attack(attack: AttackResult) -> list[str | Cell]:
    score, rounded = attack.score, attack.rounded
    link = images_link(attack, attack.defence.name) if has_images(attack) else None
    return [
        Cell(attack.title, link=link),
        Cell(attack.knows, (GRAY_BOX,) if attack.is_gray_box else ()),
        share(score.mean, spread=score.sd),
        _percent(score.majority.fraction),
        _percent(score.worst.fraction),
        _percent(rounded.fraction) if rounded else NOTHING,
        number(attack.attack_seconds, seconds(attack.attack_seconds)),
    ]


def _failures(attack: AttackResult) -> Cell:
    """The indicators that speak against the search, each with the rows that it is true of."""
    rows = sum(map(len, attack.rows.values()))
    found = attack.failures
    told = [f"{name}: {found[name]} of {rows}" for name in FAILURES if name in found]
    return Cell(told[0], tuple(told[1:]), tone="bad") if told else NOTHING


def _meanings(attacks: Iterable[AttackResult]) -> str:
    found = {name for attack in attacks for name in attack.failures}
    return "; ".join(f"{name}, {FAILURES[name]}" for name in FAILURES if name in found)


def _asked(cost: Cost | None) -> list[Cell]:
    if cost is None:
        return [NOTHING] * 3
    return [number(cost.purifications), number(cost.forwards), number(cost.backwards)]


_TONES: dict[Outcome, Tone] = {"passed": "good", "failed": "bad", "not run": ""}


def _checks(checks: list[Check]) -> Table:
    rows = [(c.name, Cell(c.outcome, tone=_TONES[c.outcome]), c.sentence) for c in checks]
    return Table("Sanity checks", ("Check", "Outcome", "Numbers"), rows)


def _costs(defences: tuple[DefenceResult, ...]) -> Table:
    return Table(
        "Cost of inference",
        ("Defence", Column("Clean", "number"), Column("s/image", "number")),
        [
            (
                defence.title,
                _percent(defence.clean.accuracy.fraction),
                number(defence.clean.purify_seconds, seconds(defence.clean.purify_seconds)),
            )
            for defence in defences
        ],
        "Seconds to purify one clean image; clean accuracy beside it.",
    )


def _missing(defences: tuple[DefenceResult, ...]) -> Iterator[str]:
    for defence in defences:
        for label, rows in defence.errors.items():
            title = defence.attack(label).full_title
            first = rows[0]
            yield (
                f"{defence.title}: {title}: {len(rows)} images ended in an error, the first "
                f"({first.image}): {first.error} ({'; '.join(first.faults)})"
            )
        for told, begun in (("planned and not started", False), ("begun and not finished", True)):
            names = [a.full_title for a in defence.unfinished if bool(a.rows) is begun]
            if names:
                yield f"{defence.title}: {told}: {'; '.join(names)}."


def _percent(fraction: float) -> Cell:
    return number(fraction, percent(fraction))
