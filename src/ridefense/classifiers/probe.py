"""Whether a classifier takes the images of a data set, asked before anything else is done."""

from itertools import product

import torch
from torch import Tensor, nn

from ridefense.errors import InputError
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
        InputError: where it returns anything but finite logits [N, classes], or raises an error;
            where it is the shape of the images that it cannot take, the error says which it takes.
    """
    pair = images[:2] if len(images) > 1 else images.expand(2, -1, -1, -1)
    try:
        logits = logits_of(classifier, pair)
    except InputError as error:
        if error.__cause__ is None:  # it is what it returns
            raise
        takes = _taken(classifier, pair)
        told = f"it takes images {takes}" if takes else "test it on such images by itself"
        raise InputError(f"{error}; {told}") from error
    if not logits.isfinite().all():
        raise InputError(
            f"classifier {name_of(classifier)} returned NaN or infinity for an image; "
            "check its weights and its normalisation"
        )
    return logits.shape[1]


def _taken(classifier: nn.Module, images: Tensor) -> str | None:
    """A shape of images that a classifier takes, close to the given one; None if none is found."""
    _, channels, height, _ = images.shape
    sides = sorted(_SIDES, key=lambda side: abs(side - height))
    for count, side in product(dict.fromkeys((channels, 3, 1)), sides):
        try:
            logits_of(classifier, images.new_zeros(2, count, side, side))
        except Exception:
            continue
        return f"[{count}, {side}, {side}]"
    return None
