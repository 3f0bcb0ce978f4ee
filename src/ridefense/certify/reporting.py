"""The page of certificates: certified accuracy against radius, beside what others published."""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ridefense.certify import attacked
from ridefense.certify.attacked import AttackedResult
from ridefense.certify.certification import CERTIFICATES
from ridefense.certify.published import RADII, Published, published
from ridefense.certify.results import CertificationResult
from ridefense.datasets import family
from ridefense.files import write_atomically
from ridefense.pages import (
    NOTHING,
    Block,
    Cell,
    Column,
    Document,
    Figure,
    Table,
    Text,
    made_by,
    number,
    percent,
    share,
)
from ridefense.pages import write as write_document
from ridefense.results import words

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from ridefense.pages.drawing import Point

LOG = "log.tsv"
"""Name of the field's log in a folder of certificates."""

_STEPS = 60  # of a curve


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

    Attacks that are recorded in the folder are told beside them, see `attacked`.

    Returns:
        The page's files.

    Raises:
        InputError: where there are none, or one is damaged.
        RideError: where it cannot be written to.
    """
    for result in read_certificates(folder):
        write_atomically(result.folder.folder / LOG, result.log().encode())
    return write_document(report(folder), folder, "certify")


def report(folder: str | os.PathLike[str]) -> Document:
    """The page of all certificates at or below a folder, with the attacks that it records.

    Raises:
        InputError: as `write`.
    """
    results = read_certificates(folder)
    return page(results, attacked.read(folder, results))


def page(
    results: Sequence[CertificationResult], attacks: Sequence[AttackedResult] = ()
) -> Document:
    """The page of some certificates.

    Args:
        attacks: on the same smoothed classifiers, see `attacked.read`.
    """
    found = [result for result in results if result.rows]
    titles = {result.folder.settings["dataset"]["title"] for result in results}
    blocks: list[Block] = [*_contradicted(attacks), *_unfinished(results)]
    if found:
        blocks += [_table(found), _figure(found, attacks), *_attacks(attacks)]
        blocks += [*_published(found), _notes(found)]
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


def _figure(results: Sequence[CertificationResult], attacks: Sequence[AttackedResult]) -> Figure:
    def draw() -> "Drawing":
        from ridefense.pages.drawing import curves

        reach = max((row.radius for r in results for row in r.rows), default=0.0) or 1.0
        radii = [reach * step / _STEPS for step in range(_STEPS + 1)]
        sigmas = sorted({result.sigma for result in results})
        panels = {}
        for sigma in sigmas:
            part = [result for result in results if result.sigma == sigma]
            panels[f"σ {sigma:g}"] = _curves(part, attacks, radii) | _published_curves(part)
        return curves(
            panels,
            "ℓ2 radius",
            "certified accuracy, %",
            dashed=tuple(_published_curves(results)),
            y_range=(-3, 103),
        )

    return Figure("Certified accuracy against radius", draw, "Bands: 95% intervals.")


def _curves(
    results: Sequence[CertificationResult],
    attacks: Sequence[AttackedResult],
    radii: Sequence[float],
) -> "dict[str, list[Point]]":
    """Of results of one σ: each result's curve, and what attacks on it left."""
    from ridefense.pages.drawing import Point

    drawn = {}
    for name, result in zip(_names(results), results, strict=True):
        drawn[name] = [Point.percent(radius, result.certified(radius)) for radius in radii]
        under = sorted(
            (found for found in attacks if found.certified is result), key=lambda found: found.eps
        )
        if under:
            drawn[f"{name}, attacked"] = [Point.percent(one.eps, one.upper) for one in under]
    return drawn


def _published_curves(results: Sequence[CertificationResult]) -> "dict[str, list[Point]]":
    from ridefense.pages.drawing import Point

    return {
        f"{p.method} ({p.source})": [
            Point.at(x, 100 * y) for x, y in zip(p.radii, p.shares, strict=True)
        ]
        for p in _beside(results)
    }


def _published(results: Sequence[CertificationResult]) -> Iterable[Table]:
    beside = _beside(results)
    if not beside:
        return
    columns: list[str | Column] = [
        "Method",
        "Source",
        Column("σ"),
        *(Column(f"r {r:g}", "number") for r in RADII),
    ]
    rows: list[list[str | Cell]] = []
    for entry in beside:
        at = dict(zip(entry.radii, entry.shares, strict=True))
        cells = [number(at[r], percent(at[r], 0)) if r in at else NOTHING for r in RADII]
        sigma = "best of several" if entry.sigma is None else f"{entry.sigma:g}"
        rows.append([entry.method, entry.source, sigma, *cells])
    yield Table("Published", columns, rows, "On other classifiers and other images.")


def _beside(results: Sequence[CertificationResult]) -> list[Published]:
    found = [
        entry
        for result in results
        for entry in published(family(result.folder.settings["dataset"]["name"]), result.sigma)
    ]
    return list(dict.fromkeys(found))


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


def _names(results: Sequence[CertificationResult]) -> list[str]:
    """A name for each of one σ, with its folder's where what it tells does not set two apart."""
    names = [f"{result.title}, {result.classifier}" for result in results]
    return [
        name if names.count(name) == 1 else f"{name} ({result.name})"
        for name, result in zip(names, results, strict=True)
    ]


def _settings(result: CertificationResult) -> str:
    settings = result.folder.settings
    return f"n {settings['n']}, {settings['path']} pixels"
