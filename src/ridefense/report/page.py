"""Results as one HTML file that needs nothing else: the table, the settings, the images."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import jinja2
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from ridefense.evaluate import Row, RunFolder
from ridefense.report.tables import GRAY_BOX, ROBUST, cells, notes, titles
from ridefense.results import AttackResult, DefenceResult, Results, words

FIRST = 12
"""Images of each attack that are shown, in the order of the data set; then as many failures."""

_LARGEST = 112  # pixels a side of a picture on the page; larger images are shrunk

_TEMPLATE = jinja2.Environment(
    loader=jinja2.PackageLoader("ridefense.report"), autoescape=True, trim_blocks=True
).get_template("page.html")


@dataclass(frozen=True)
class Picture:
    """An image as it is shown: a data URI, and what was predicted."""

    title: str
    source: str
    prediction: str
    wrong: bool


@dataclass(frozen=True)
class Card:
    """One image of the data set, clean, attacked and purified."""

    image: int
    label: str
    pictures: tuple[Picture, ...]
    failed: bool


@dataclass(frozen=True)
class Grid:
    """Some images of one run under one attack."""

    title: str
    gray_box: bool
    settings: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Section:
    """A run: its settings in words, and its grids."""

    name: str
    defence: str
    settings: tuple[tuple[str, str], ...]
    grids: tuple[Grid, ...]


def as_html(results: Results) -> str:
    """A self-contained page; everything that comes from records is escaped.

    Of a run without any images it has the numbers alone.

    Raises:
        InputError: where images that rows speak of are missing or damaged.
    """
    rows = [(attack, cells(attack), _bar(attack)) for attack in results.attacks]
    return _TEMPLATE.render(
        titles=titles(results),
        robust=ROBUST,
        gray_box=GRAY_BOX,
        rows=rows,
        notes=notes(results),
        sections=[_section(defence, results) for defence in results.defences],
    )


def _bar(attack: AttackResult) -> dict[str, float]:
    """Where the interval and its accuracy lie on an axis from 0 to 100."""
    low, high = attack.accuracy.interval
    return {"low": 100 * low, "width": 100 * (high - low), "at": 100 * attack.accuracy.fraction}


def _section(defence: DefenceResult, results: Results) -> Section:
    settings, data = defence.run.settings, defence.dataset
    known = {
        "Defence": words.schedule(defence.purifier, defence.preset),
        "Images": f"{data['images']} of {data['title']}, {data['split']} split",
        "Classifier": f"{defence.classifier} (weights {settings['classifier']['weights']})",
        "Draws": f"{settings['draws']} for each final image; seeds "
        + ", ".join(map(str, settings["seeds"])),
        "Versions": ", ".join(f"{k} {v}" for k, v in defence.run.versions.items() if v),
    }
    attacks = [attack for attack in results.attacks if attack.defence is defence]
    return Section(
        name=defence.name,
        defence=defence.short_title,
        settings=tuple(known.items()),
        grids=tuple(map(_grid, attacks)) if defence.run.has_images else (),
    )


def _grid(attack: AttackResult) -> Grid:
    made = attack.threat and words.attack(attack.threat, attack.defence.is_undefended)
    return Grid(
        title=attack.short_title,
        gray_box=attack.is_gray_box,
        settings=made or "clean images alone",
        cards=tuple(_cards(attack)),
    )


def _cards(attack: AttackResult) -> Iterator[Card]:
    clean = {image: rows[0] for image, rows in attack.clean.rows.items()}
    run = attack.defence.run
    shown = [rows[0] for image, rows in attack.rows.items() if image in clean]
    failures = [row for row in shown[FIRST:] if row.predictions[0] != row.label]
    classes = attack.defence.dataset["classes"]
    for row in (*shown[:FIRST], *failures[:FIRST]):
        pictures = [_picture(run, clean[row.image], "final", "clean", classes)]
        if not attack.is_clean:
            pictures.append(_picture(run, row, "final", "attacked", classes))
        pictures.append(_picture(run, row, "purified", "purified", classes))
        failed = row.predictions[0] != row.label
        yield Card(row.image, _class(classes, row.label), tuple(pictures), failed)


def _picture(run: RunFolder, row: Row, kind: str, title: str, classes: list[str]) -> Picture:
    predicted = row.predictions[0] if kind == "purified" else row.bare
    return Picture(
        title=title,
        source=_data_uri(run.images(row)[kind]),
        prediction=_class(classes, predicted),
        wrong=predicted != row.label,
    )


def _class(classes: list[str], number: int) -> str:
    """A class's name, where it has one that is more than its number."""
    if number < 0:
        return "not finite"
    return str(classes[number]) if number < len(classes) else str(number)


def _data_uri(image: Tensor) -> str:
    """A PNG of an image [C, H, W] in [0, 1]; what is no number is black."""
    levels = (image.float().nan_to_num(0).clamp(0, 1) * 255).round().byte()
    picture = transforms.to_pil_image(levels)
    picture.thumbnail((_LARGEST, _LARGEST))
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
