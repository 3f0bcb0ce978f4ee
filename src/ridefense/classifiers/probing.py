"""Whether a classifier and a data set fit together, asked before anything else is done."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from itertools import product

import torch
from torch import Tensor, nn

from ridefense.datasets import Dataset
from ridefense.errors import InputError, UserCodeError
from ridefense.logits import logits_of, name_of

_SIDES = (28, 32, 48, 64, 84, 96, 112, 128, 160, 192, 224, 240, 256, 288, 299, 320, 336, 384, 448)
"""Sides of images that networks are made for."""


@torch.no_grad()
def probe(classifier: nn.Module, images: Tensor) -> int:
    """How many classes a classifier has, found by showing it images.

    Args:
        classifier: pixels to logits, in eval mode.
        images: float [N, C, H, W] on its device, of the data that it is to be used on.

    Raises:
        InputError: if it returns anything but finite logits [N, classes].
        UserCodeError: if it raises an error; the message names a shape of images that it takes, if
            there is one.

    Warns:
        RuntimeWarning: where the same image gets other logits in another call.
    """
    pair = images[:2] if len(images) > 1 else images.expand(2, -1, -1, -1)
    try:
        logits = logits_of(classifier, pair)
    except UserCodeError as error:
        takes = shape_taken(lambda x: logits_of(classifier, x), pair)
        if takes is None:
            raise
        raise UserCodeError(f"{error}; it takes images {takes}") from error.__cause__
    if not logits.isfinite().all():
        raise InputError(
            f"classifier {name_of(classifier)} returned NaN or infinity for an image; "
            "check its weights and its normalisation"
        )
    _warn_if_not_repeatable(classifier, pair, logits)
    return logits.shape[1]


def _warn_if_not_repeatable(classifier: nn.Module, pair: Tensor, logits: Tensor) -> None:
    """Warn where an image's logits depend on chance, or on the other images of its batch.

    As those of dropout, or of batch normalisation by the batch's own statistics, that is on in eval
    mode too: then no figure is a property of the image, and an attack is misled.
    """
    margin = 0.05 * float(logits.amax() - logits.amin())  # above the rounding of other batch sizes
    with suppress(UserCodeError):  # some take no batch of one
        for others, why in (
            ((pair,), "differently each time"),
            (torch.split(pair, 1), "differently in another batch"),
        ):
            again = torch.cat([logits_of(classifier, images) for images in others])
            if again.shape != logits.shape or float((again - logits).abs().max()) > margin:
                warnings.warn(
                    f"classifier {name_of(classifier)} answers the same image {why}, in eval mode; "
                    "figures of it are not reproducible, and attacks that take it for repeatable "
                    "are weaker than they look: turn off its dropout, noise and batch statistics, "
                    "or audit it, which treats it as what it is",
                    RuntimeWarning,
                    stacklevel=3,
                )
                return


def check_classes(images: Dataset, classifier: str, classes: int) -> None:
    """Refuse images whose labels are not those of a classifier.

    Where classes are named, a label is the place of a name among all names, so that other names
    make other labels.

    Raises:
        InputError: for a label that the classifier does not have, and for another number of names.
    """
    found = images.classes
    numbered = all(name.isdecimal() and int(name) == n for n, name in enumerate(found))
    # A few images drawn of many may lack the labels that tell.
    if int(images.labels.max()) >= classes or (numbered and len(found) > classes):
        raise InputError(
            f"{classifier} has {classes} classes, {images.title} has more; "
            "choose a classifier made for these images"
        )
    if numbered or len(found) == classes:
        return
    missing = ", or add the missing ones empty" if len(found) < classes else ""
    raise InputError(
        f"{images.title} has {len(found)} classes, {classifier} {classes}; choose another "
        f"classifier, or name folders of images by class number (0 to {classes - 1}){missing}"
    )


def readable(images: Dataset, count: int) -> Tensor:
    """The first images that can be decoded, at most `count`: [N, C, H, W].

    Raises:
        InputError: where none can.
    """
    found: list[Tensor] = []
    told: InputError | None = None
    for n in range(len(images)):
        try:
            found.append(images[n : n + 1].images)
        except InputError as error:
            told = told or error
        if len(found) == count:
            break
    if not found:
        raise told or InputError(f"{images.title} has no images here; take at least one")
    return torch.cat(found)


def shape_taken(call: Callable[[Tensor], object], images: Tensor) -> str | None:
    """A shape [C, H, W] of images that a call takes, close to the given one, or None.

    Args:
        call: of a classifier or a defence, which failed on the images.
        images: [N, C, H, W].
    """
    _, channels, height, _ = images.shape
    sides = sorted(_SIDES, key=lambda side: abs(side - height))
    for count, side in product(dict.fromkeys((channels, 3, 1)), sides):
        try:
            call(images.new_zeros(2, count, side, side))
        except Exception:
            continue
        return f"[{count}, {side}, {side}]"
    return None
