"""The audit's page, as HTML and as Markdown, from its records alone."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from ridefense.audit.checks import Check, sanity
from ridefense.audit.findings import Findings, gather
from ridefense.audit.plots import plots
from ridefense.audit.verdict import Verdict, headline, verdicts
from ridefense.files import write_atomically
from ridefense.report.tables import GRAY_BOX, UPPER_BOUND, in_markdown, interval, percent, seconds
from ridefense.results import AttackResult, WorstCase, notes, words

Rows = list[list[str]]

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.ChoiceLoader(
        [jinja2.PackageLoader("ridefense.audit"), jinja2.PackageLoader("ridefense.report")]
    ),
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Table:
    title: str
    text: str
    columns: tuple[str, ...]
    rows: Rows


@dataclass(frozen=True)
class Page:
    """Everything on the page, in its order."""

    title: str
    headline: list[str]
    setting: list[str]
    tables: list[Table]
    plots: dict[str, str]
    checks: list[Check]
    missing: list[str]
    verdicts: list[Verdict]


def write(folder: str | os.PathLike[str]) -> Page:
    """Write audit.html, audit.md and their plots into an audit's folder, from its records.

    Raises:
        InputError: where it is no audit's folder, or nothing in it is finished.
        RideError: where it cannot be written to.
    """
    folder = Path(folder)
    page = compose(gather(folder))
    for name, svg in page.plots.items():
        write_atomically(folder / plot_name(name), svg.encode())
    for suffix, render in (("html", as_html), ("md", as_markdown)):
        write_atomically(folder / f"audit.{suffix}", render(page).encode())
    return page


def compose(findings: Findings) -> Page:
    """The page of some findings."""
    checks, found = sanity(findings), verdicts(findings)
    return Page(
        title=f"Audit of {findings.subject.title}",
        headline=headline(findings, found, checks),
        setting=list(_setting(findings)),
        tables=[_worst_cases(findings), *_by_radius(findings), _costs(findings)],
        plots=plots(findings),
        checks=checks,
        missing=list(_missing(findings)),
        verdicts=found,
    )


def as_html(page: Page) -> str:
    """One file that needs nothing else; what comes from records is escaped."""
    template = _ENVIRONMENT.overlay(autoescape=True).get_template("audit.html")
    return template.render(page=page, plots={k: Markup(v) for k, v in page.plots.items()})


def as_markdown(page: Page) -> str:
    """The same; the plots are files beside it."""
    template = _ENVIRONMENT.overlay().get_template("audit.md")
    return template.render(page=page, plot_name=plot_name, text=in_markdown)


def plot_name(title: str) -> str:
    return title.lower().replace(" ", "-").replace("ε", "eps") + ".svg"


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
        f"Each final image is classified in {settings['draws']} fresh draws of the defence, "
        "but in one where the attacker knows its seed."
    )
    yield "Brackets: 95% Clopper-Pearson interval in per cent."
    yield "Versions: " + ", ".join(f"{k} {v}" for k, v in subject.run.versions.items() if v) + "."


def _worst_cases(findings: Findings) -> Table:
    cases = (d.worst_case(*ball) for ball in findings.balls for d in findings.defences)
    return Table(
        "Worst case of each image",
        f"Survivors of the attack that is worst for each image; {UPPER_BOUND}. Picked: all draws "
        "but one choose the attack and that one scores it, so luck does not count. Minimum: the "
        "least share of draws over attacks, which luck lowers. Majority: images of which the "
        "draws' vote is right under every attack.",
        ("Ball", "Defence", "n", "Clean", "Picked", "Minimum", "Majority", "Seed known", "Attacks"),
        [_worst_case(case) for case in cases if case],
    )


def _worst_case(case: WorstCase) -> list[str]:
    known = case.defence.worst_case(case.norm, case.eps, seed_known=True)
    left = case.accuracy
    return [
        case.ball,
        case.defence.title,
        str(left.n),
        percent(case.defence.clean.accuracy.fraction),
        f"{percent(left.fraction)} {interval(left)}",
        percent(case.minimum.fraction),
        percent(case.majority.fraction),
        percent(known.accuracy.fraction) if known else "—",
        str(len(case.attacks)),
    ]


def _by_radius(findings: Findings) -> Iterator[Table]:
    subject = findings.subject
    for ball in findings.balls:
        attacks = [*subject.at(*ball), *subject.at(*ball, seed_known=True)]
        noise = subject.noise(*ball)
        rows = [_attack(a) for a in sorted(attacks, key=lambda a: a.accuracy.fraction)]
        rows += [_attack(noise)] if noise else []
        yield Table(
            f"{subject.title} at {words.ball(*ball)}, attack by attack",
            "The strongest first. Seconds are wall time for one image, a batch's part.",
            ("Attack", "Knows", "Robust ± sd", "Majority", "Worst draw", "8 bits", "s/image"),
            rows,
        )


def _attack(attack: AttackResult) -> list[str]:
    score, rounded = attack.score, attack.rounded
    return [
        attack.title,
        f"{attack.knows}; {GRAY_BOX}" if attack.is_gray_box else attack.knows,
        f"{percent(score.mean.fraction)} ± {100 * score.sd:.1f} {interval(score.mean)}",
        percent(score.majority.fraction),
        percent(score.worst.fraction),
        percent(rounded.fraction) if rounded else "—",
        seconds(attack.attack_seconds),
    ]


def _costs(findings: Findings) -> Table:
    rows = [
        [d.title, percent(d.clean.accuracy.fraction), seconds(d.clean.purify_seconds)]
        for d in findings.defences
    ]
    return Table(
        "Cost of inference",
        "Seconds to purify one clean image, wall time, a batch's part; clean accuracy beside it.",
        ("Defence", "Clean", "s/image"),
        rows,
    )


def _missing(findings: Findings) -> Iterator[str]:
    for defence in findings.defences:
        if defence.unfinished:
            names = "; ".join(attack.full_title for attack in defence.unfinished)
            yield f"{defence.title}: not run or not finished: {names}."
    yield from notes(attack for d in findings.defences for attack in d.attacks)
