"""The audit's page, as HTML and as Markdown, from its records alone."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from ridefense.audit.checks import Check, sanity
from ridefense.audit.findings import (
    Attacked,
    Case,
    Findings,
    accuracy,
    gather,
    majority,
    picked,
    worst,
)
from ridefense.audit.plots import plots
from ridefense.audit.verdict import Verdict, headline, verdicts
from ridefense.evaluate import FAULTS
from ridefense.files import write_atomically
from ridefense.report import words
from ridefense.report.tables import GRAY_BOX, UPPER_BOUND, in_markdown, interval, percent, seconds

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
        title=f"Audit of {findings.subject.defence}",
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
    run = findings.subject.run
    data = run.settings["dataset"]
    yield f"Defence: {words.schedule(run.settings['purifier'], run.settings['preset'])}."
    yield (
        f"Images: n = {data['images']} of {data['title']}, {data['split']} split, drawn with seed "
        f"{data['image_seed']}; true labels."
    )
    yield (
        f"Classifier: {run.settings['classifier']['name']} (weights "
        f"{run.settings['classifier']['weights']}); attacks are ℓ∞ in [0, 1] pixels."
    )
    yield (
        f"Each final image is classified in {run.settings['draws']} fresh draws of the defence, "
        "but in one where the attacker knows its seed."
    )
    yield "Brackets: 95% Clopper-Pearson interval in per cent."
    yield "Versions: " + ", ".join(f"{k} {v}" for k, v in run.versions.items() if v) + "."


def _worst_cases(findings: Findings) -> Table:
    rows = []
    for eps in findings.radii:
        for case in findings.cases:
            rows += [_worst_case(case, eps)] if case.at(eps) else []
    return Table(
        "Worst case of each image",
        f"Survivors of the attack that is worst for each image; {UPPER_BOUND}. Picked: all draws "
        "but one choose the attack and that one scores it, so luck does not count. Minimum: the "
        "least share of draws over attacks, which luck lowers. Majority: images of which the "
        "draws' vote is right under every attack.",
        ("ε", "Defence", "n", "Clean", "Picked", "Minimum", "Majority", "Seed known", "Attacks"),
        rows,
    )


def _worst_case(case: Case, eps: float) -> list[str]:
    attacks, known = case.at(eps), case.at(eps, seed_known=True)
    left = accuracy(picked(attacks))
    return [
        f"{eps:g}",
        case.defence,
        str(left.n),
        percent(case.clean.score.mean.fraction),
        f"{percent(left.fraction)} {interval(left)}",
        percent(accuracy(worst(attacks)).fraction),
        percent(accuracy(majority(attacks)).fraction),
        percent(accuracy(worst(known)).fraction) if known else "—",
        str(len(attacks)),
    ]


def _by_radius(findings: Findings) -> Iterator[Table]:
    case = findings.subject
    for eps in findings.radii:
        attacks = [*case.at(eps), *case.at(eps, seed_known=True)]
        noise = case.noise(eps)
        rows = [_attack(a) for a in sorted(attacks, key=lambda a: a.score.mean.fraction)]
        rows += [_attack(noise)] if noise else []
        yield Table(
            f"{case.defence} at ε {eps:g}, attack by attack",
            "The strongest first. Seconds are wall time for one image on a machine that was "
            "shared, a batch's part.",
            ("Attack", "Knows", "Robust ± sd", "Majority", "Worst draw", "8 bits", "s/image"),
            rows,
        )


def _attack(attack: Attacked) -> list[str]:
    score, knows = attack.score, words.knows(attack.settings)
    return [
        attack.title,
        f"{knows}; {GRAY_BOX}" if knows == "classifier" else knows,
        f"{percent(score.mean.fraction)} ± {100 * score.sd:.1f} {interval(score.mean)}",
        percent(score.majority.fraction),
        percent(score.worst.fraction),
        percent(attack.rounded.fraction),
        seconds(attack.seconds),
    ]


def _costs(findings: Findings) -> Table:
    rows = [
        [case.defence, percent(case.clean.score.mean.fraction), seconds(case.seconds)]
        for case in findings.cases
    ]
    return Table(
        "Cost of inference",
        "Seconds to purify one clean image, wall time on a machine that was shared, a batch's "
        "part; clean accuracy beside it.",
        ("Defence", "Clean", "s/image"),
        rows,
    )


def _missing(findings: Findings) -> Iterator[str]:
    for case in findings.cases:
        if case.unfinished:
            names = "; ".join(f"{a.title} at ε {a.eps:g}" for a in case.unfinished)
            yield f"{case.defence}: not run or not finished: {names}."
        faults = Counter(
            (attack.title, attack.eps, fault)
            for attack in case.attacks
            for rows in attack.rows.values()
            for row in rows
            for fault in row.faults
        )
        for (title, eps, fault), count in faults.items():
            yield f"{case.defence}, {title} at ε {eps:g}: in {count} rows {FAULTS[fault]}."
