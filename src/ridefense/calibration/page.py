"""The page of a calibration: truth, what the audit reports, and what single attacks report."""

import os
from collections.abc import Iterator
from pathlib import Path

from ridefense.calibration.measured import ALONE, Measured, measured
from ridefense.describe import Plain
from ridefense.pages import (
    NOTHING,
    Cell,
    Column,
    Document,
    Section,
    Table,
    Text,
    made_by,
    percent,
    share,
)
from ridefense.pages import write as write_document

PAGE = "calibration"
"""Name of the page, without a suffix."""


def write(folder: str | os.PathLike[str]) -> tuple[Document, tuple[Measured, ...]]:
    """Write calibration.html and calibration.md into a calibration's folder.

    Raises:
        InputError: where it is no folder of a calibration.
        RideError: where the folder cannot be written to.
    """
    plan, found = measured(folder)
    document = compose(plan, found)
    write_document(document, Path(folder), PAGE)
    return document, found


def compose(plan: Plain, found: tuple[Measured, ...]) -> Document:
    """The page: the result in a few sentences, then a line for each sample."""
    mirages = [one for one in found if not one.sample.is_sound]
    sound = [one for one in found if one.sample.is_sound]
    blocks = [Text(tuple(_answers(mirages, sound)), "answer")]
    missing = [name for name in plan["samples"] if name not in {one.sample.name for one in found}]
    if missing:
        blocks.append(Text((f"Not begun: {', '.join(missing)}.",), "quiet"))
    tables = (
        _table("Mirages", mirages, "A mirage computes the identity, or has the decision of the "
               "bare classifier, and hides the gradient. Beyond truth: images that survive the "
               "audit and not the attacks on the bare classifier."),
        _table("Sound classifiers", sound, "Truth is what AutoAttack standard leaves. Below: "
               "images that the audit broke and AutoAttack did not."),
    )  # fmt: skip
    return Document(
        "Calibration of the audit",
        (*blocks, *(t for t in tables if t.rows), _setting(plan)),
        provenance=made_by(run.run for one in found for run in (one.truth, one.audit)),
    )


def _answers(mirages: list[Measured], sound: list[Measured]) -> Iterator[str]:
    if mirages:
        good = sum(one.holds for one in mirages)
        yield (
            f"{good} of {len(mirages)} mirages are found out: the audit leaves them no more than "
            "the truth."
        )
        for one in mirages:
            if one.misread:
                yield (
                    f"{one.sample.name} is not audited as what it is: its clean accuracy is "
                    f"reported as {percent(one.audit.clean.accuracy.fraction)}, and is "
                    f"{percent(one.truth.clean.accuracy.fraction)}."
                )
            elif not one.holds:
                yield f"{one.sample.name} keeps {one.beyond} of {one.reported.n} beyond the truth."
        for name in ALONE:
            fooled, of = _fooled(mirages, name)
            if of:
                yield (
                    f"{name} alone would have reported more than the truth, or nothing, for "
                    f"{fooled} of {of}."
                )
    if sound:
        known = [one for one in sound if one.truth_known]
        good = sum(one.holds for one in known)
        yield (
            f"{good} of {len(known)} sound classifiers keep their figure: at most one image in 200 "
            "survives beyond AutoAttack, and every adversarial image is a valid one."
        )


def _fooled(found: list[Measured], name: str) -> tuple[int, int]:
    """For how many samples a single attack reports more than the truth, of those it was run on."""
    run = [one for one in found if one.alone(name) or one.failed(name)]
    fooled = 0
    for one in run:
        attack = one.alone(name)
        fooled += attack is None or attack.accuracy.interval[0] > one.true.fraction
    return fooled, len(run)


def _table(title: str, found: list[Measured], text: str) -> Table:
    sound = title != "Mirages"
    columns = (
        "Sample",
        "Kind",
        "What it does",
        Column("Truth", "interval"),
        Column("Audit", "interval"),
        Column("Beyond truth", "number"),
        *([Column("Below", "number")] if sound else []),
        "Found before",
        "Found by",
        Column("Attacks", "number"),
        *(() if sound else (Column(f"{name} alone", "interval") for name in ALONE)),
    )
    return Table(title, columns, [_row(one, sound) for one in found], text)


def _row(one: Measured, sound: bool) -> list[str | Cell]:
    found_by = one.found_by
    known = one.truth_known or not sound
    return [
        one.sample.name,
        one.sample.kind,
        one.sample.about,
        share(one.true) if known else NOTHING,
        share(one.reported),
        Cell(f"{one.beyond}", value=one.beyond, tone="good" if one.holds else "bad")
        if known
        else NOTHING,
        *([Cell(f"{one.below}", value=one.below) if known else NOTHING] if sound else []),
        ", ".join(dict.fromkeys(f.name for f in one.examination.findings)) or NOTHING,
        found_by.title if found_by else NOTHING,
        Cell(f"{len(one.audit.attacks)}", value=len(one.audit.attacks)),
        *(() if sound else (_alone(one, name) for name in ALONE)),
    ]


def _alone(one: Measured, name: str) -> Cell:
    attack = one.alone(name)
    if attack is None:
        return Cell("fails") if one.failed(name) else NOTHING
    short = attack.accuracy.n != one.reported.n
    return share(attack.accuracy, *([f"n = {attack.accuracy.n}"] if short else []))


def _setting(plan: Plain) -> Section:
    told = (
        f"{plan['images']} images of {plan['dataset']}, ℓ∞ {plan['eps']:g}, budget "
        f"{plan['budget']}. Brackets: 95% Clopper-Pearson interval, in per cent.",
        "A mirage is audited cheapest attacks first, until no image survives that does not survive "
        "in truth: more attacks could not change what is concluded of it.",
        "Audit: the picked worst case, as an audit reports it. Found before: what the "
        "audit finds before its attacks. Found by: the cheapest of the strongest attacks.",
        "Truth of a mirage: what AutoAttack standard and long PGD and APGD leave of the bare "
        "classifier.",
        "BPDA alone: ten steps of ε/5. PGD alone: 40 steps of ε/4 on the cross-entropy through "
        "PyTorch's own derivative, without any repair. AutoAttack alone: standard, or rand where "
        "the defence says that it is randomised, through PyTorch's own derivative. Fails: it ends "
        "in an error, since there is no derivative.",
    )
    return Section("How it was measured", (Text(told, "list"),))
