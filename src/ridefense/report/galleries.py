"""Images of a run as a gallery: clean, attacked, their difference, purified."""

from collections.abc import Iterator

from torch import Tensor

from ridefense.evaluate import REFUSED, Row
from ridefense.evaluate.lines import DEFENCE_FAILED
from ridefense.pages import Card, Gallery, Picture
from ridefense.pages.pictures import as_webp, magnification, perturbation
from ridefense.results import AttackResult

FIRST = 12
"""Images of an attack that are shown, in the order of the data set; then as many failures."""

TEXT = (
    "The first images, then failures among the others. Below each image: the class that the bare "
    "classifier sees in the clean and in the attacked image, and the defended classifier in the "
    "purified one."
)


def pictured(attack: AttackResult) -> list[Row]:
    """The rows of an attack, of the first seed, that have images and clean ones beside them."""
    clean = attack.clean.rows
    pairs = [(rows[0], clean[image][0]) for image, rows in attack.rows.items() if image in clean]
    return [row for row, own in pairs if DEFENCE_FAILED not in (*row.faults, *own.faults)]


def gallery(attack: AttackResult, title: str, first: int = FIRST) -> Gallery:
    """Some images of an attack; of clean images alone there is no perturbation.

    Args:
        first: how many images are shown at most, and how many failures after them.

    Raises:
        InputError: where an image's file is missing or damaged.
    """
    clean = {image: rows[0] for image, rows in attack.clean.rows.items()}
    found = pictured(attack)
    failures = [row for row in found[first:] if _failed(row)]
    rows = [*found[:first], *failures[:first]]
    run = attack.defence.run
    images = [run.images(row) for row in rows]
    unattacked = [run.images(clean[row.image])["final"] for row in rows]
    scale = magnification(unattacked, [image["final"] for image in images])
    cards = [
        _card(attack, row, clean[row.image], before, after, scale)
        for row, before, after in zip(rows, unattacked, images, strict=True)
    ]
    told = TEXT
    if not attack.is_clean:
        told += f" Perturbation: attacked minus clean, times {scale:g}, around grey."
    return Gallery(title, tuple(cards), told)


def _card(
    attack: AttackResult,
    row: Row,
    clean: Row,
    before: Tensor,
    after: dict[str, Tensor],
    scale: float,
) -> Card:
    classes = attack.defence.dataset["classes"]

    def pictures() -> Iterator[Picture]:
        yield _predicted("clean", before, clean.bare, row.label, classes)
        if not attack.is_clean:
            yield _predicted("attacked", after["final"], row.bare, row.label, classes)
            shown = perturbation(before, after["final"], scale)
            yield Picture(f"perturbation ×{scale:g}", as_webp(shown))
        yield _predicted("purified", after["purified"], row.predictions[0], row.label, classes)

    return Card(_class(classes, row.label), row.image, tuple(pictures()), _failed(row))


def _predicted(
    title: str, image: Tensor, prediction: int, label: int, classes: list[str]
) -> Picture:
    return Picture(title, as_webp(image), _class(classes, prediction), prediction != label)


def _failed(row: Row) -> bool:
    return row.judged[0] != row.label


def _class(classes: list[str], number: int) -> str:
    """A class's name, or its number where it has none."""
    if number == REFUSED:
        return "refused"
    if number < 0:
        return "not finite"
    return str(classes[number]) if number < len(classes) else str(number)
