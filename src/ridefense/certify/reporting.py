"""The page of certificates: certified accuracy against radius, beside what others published."""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ridefense.certify import attacked
from ridefense.certify.attacked import AttackedResult
from ridefense.certify.certification import CERTIFICATES
from ridefense.certify.curves import beside, figure
from ridefense.certify.logs import CertificateLog, log_text, read_log
from ridefense.certify.published import RADII
from ridefense.certify.results import CertificationResult
from ridefense.files import write_atomically
from ridefense.pages import (
    NOTHING,
    Block,
    Cell,
    Column,
    Document,
    Table,
    Text,
    made_by,
    number,
    percent,
    share,
)
from ridefense.pages import write as write_document
from ridefense.results import words

LOG = "log.tsv"
"""Name of the field's log in a folder of certificates."""

LOGS = "logs"
"""Subfolder of a page's folder with logs of others, `NAME.tsv`, that stand beside."""


def read_certificates(folder: str | os.PathLike[str]) -> list[CertificationResult]:
    """The certificates at or below a folder, by name.

    Raises:
        InputError: where there are none, or one is damaged.
    """
    folder = Path(folder)
    paths = CERTIFICATES.find(folder)
    named = [(path.relative_to(folder).as_posix(), CERTIFICATES.read(path)) for path in paths]
    return [CertificationResult(n if n != "." else folder.name, found) for n, found in named]


def write(folder: str | os.PathLike[str]) -> list[Path]:
    """Write the page of all certificates at or below a folder, and the log of each.

    Attacks that are recorded in the folder are told beside them, see `attacked`, and so are logs of
    others in its subfolder `LOGS`.

    Returns:
        The page's files.

    Raises:
        InputError: where there are none, or one is damaged.
        RideError: where it cannot be written to.
    """
    for result in read_certificates(folder):
        write_atomically(result.folder.folder / LOG, log_text(result.rows).encode())
    return write_document(report(folder), folder, "certify")


def report(folder: str | os.PathLike[str]) -> Document:
    """The page of all certificates at or below a folder, with what else `write` tells.

    Raises:
        InputError: as `write`.
    """
    results = read_certificates(folder)
    logs = [read_log(path) for path in sorted(Path(folder, LOGS).glob("*.tsv"))]
    return page(results, attacked.read(folder, results), logs)


def page(
    results: Sequence[CertificationResult],
    attacks: Sequence[AttackedResult] = (),
    logs: Sequence[CertificateLog] = (),
) -> Document:
    """The page of some certificates.

    Args:
        attacks: on the same smoothed classifiers, see `attacked.read`.
        logs: of others, to stand beside.
    """
    found = [result for result in results if result.rows]
    titles = {result.folder.settings["dataset"]["title"] for result in results}
    blocks: list[Block] = [*_contradicted(attacks), *_unfinished(results)]
    if found:
        blocks += [_table(found), figure(found, attacks, logs), *_attacks(attacks)]
        blocks += [*_published(found), *_logs(logs), _notes(found)]
    return Document(
        title="Certified accuracy: " + ", ".join(sorted(titles)),
        subtitle="Randomised smoothing in ℓ2: no perturbation within the radius changes the "
        "smoothed prediction.",
        blocks=tuple(blocks),
        provenance=made_by(result.folder for result in results),
    )


def _unfinished(results: Iterable[CertificationResult]) -> Iterable[Block]:
    missing = [
        f"{_name(r)}: {len(r.folder.rows)} of {r.declared} images are certified."
        for r in results
        if len(r.folder.rows) < r.declared
    ]
    if missing:
        yield Text(tuple(missing), "answer")


def _contradicted(attacks: Iterable[AttackedResult]) -> Iterable[Block]:
    wrong = [
        f"{_name(found.certified)}: an attack within the certified radius changes the vote on "
        f"image {image}. The certificate does not hold."
        for found in attacks
        for image in found.contradictions
    ]
    if wrong:
        yield Text(tuple(wrong), "answer")


def _attacks(attacks: Sequence[AttackedResult]) -> Iterable[Table]:
    if not attacks:
        return
    columns: list[str | Column] = [
        *("Defence", "Classifier", Column("σ", "number"), "Attack"),
        *(Column("ε", "number"), Column("n", "number")),
        *(Column("Certified at ε", "interval"), Column("Right under attack", "interval")),
        Column("Contradictions", "number"),
    ]
    rows: list[list[str | Cell]] = [
        [
            Cell(found.certified.title),
            Cell(found.certified.classifier),
            number(found.certified.sigma),
            Cell(words.title(found.threat)),
            number(found.eps),
            number(len(found.rows)),
            share(found.lower),
            share(found.upper),
            number(len(found.contradictions)),
        ]
        for found in attacks
    ]
    text = (
        "Attacks on the smoothed classifier in ℓ2. Its accuracy within ε lies between the two "
        "shares. A contradiction is an image whose vote an attack changes within its certified "
        "radius; there should be none."
    )
    yield Table("Certified and attacked", columns, rows, text)


def _table(results: Sequence[CertificationResult]) -> Table:
    interval = [Column(f"r {radius:g}", "interval") for radius in RADII]
    columns: list[str | Column] = [
        *("Defence", "Classifier", Column("σ", "number"), Column("n", "number")),
        *interval,
        Column("Average radius", "number"),
        Column("Abstains", "interval"),
        Column("Certified but wrong", "interval"),
        Column("Draws/s", "number"),
    ]
    rows: list[list[str | Cell]] = [
        [
            Cell(result.title, (_settings(result),)),
            Cell(result.classifier),
            number(result.sigma),
            number(len(result.rows)),
            *(share(result.certified(radius)) for radius in RADII),
            number(result.average_radius, f"{result.average_radius:.3f}"),
            share(result.abstentions),
            share(result.wrong),
            number(result.draws_per_second, f"{result.draws_per_second:.0f}"),
        ]
        for result in results
    ]
    text = (
        "Images classified right with a certified ℓ2 radius of at least r, pixels in [0, 1]; "
        "95% Clopper-Pearson intervals over n images. Draws/s are those of one worker."
    )
    return Table("Certified accuracy", columns, rows, text)


def _published(results: Sequence[CertificationResult]) -> Iterable[Table]:
    entries = beside(results)
    if not entries:
        return
    columns: list[str | Column] = [
        "Method",
        "Source",
        Column("σ"),
        *(Column(f"r {r:g}", "number") for r in RADII),
    ]
    rows: list[list[str | Cell]] = []
    for entry in entries:
        at = dict(zip(entry.radii, entry.shares, strict=True))
        cells = [number(at[r], percent(at[r], 0)) if r in at else NOTHING for r in RADII]
        sigma = "best of several" if entry.sigma is None else f"{entry.sigma:g}"
        rows.append([entry.method, entry.source, sigma, *cells])
    yield Table("Published", columns, rows, "On other classifiers and other images.")


def _logs(logs: Sequence[CertificateLog]) -> Iterable[Table]:
    if not logs:
        return
    columns: list[str | Column] = [
        "Log",
        Column("n", "number"),
        *(Column(f"r {radius:g}", "interval") for radius in RADII),
    ]
    rows: list[list[str | Cell]] = [
        [
            log.name,
            number(len(log.rows)),
            *(share(log.certified(radius)) for radius in RADII),
        ]
        for log in logs
    ]
    yield Table("Logs of others", columns, rows, "As they were given, without their settings.")


def _notes(results: Sequence[CertificationResult]) -> Text:
    alpha = max(result.folder.settings["alpha"] for result in results)
    d = max(result.values for result in results)
    told = [
        f"A certificate is wrong with probability at most {alpha:g}, over the draws of its image.",
        "Certificates are about the smoothed classifier, which answers by the vote of many noisy "
        "draws, and not about the classifier that sees each image once.",
        f"In ℓ∞ a radius r implies r / √{d}: 1.0 implies {1 / math.sqrt(d):.3f}, far below "
        "the radii of attacks in ℓ∞.",
    ]
    return Text(tuple(told), "list")


def _name(result: CertificationResult) -> str:
    return f"{result.title}, {result.classifier}, σ {result.sigma:g}"


def _settings(result: CertificationResult) -> str:
    settings = result.folder.settings
    return f"n {settings['n']}, {settings['path']} pixels"
