"""Parts of the service for its tests: images, a model, and answers that wait at a gate."""

import asyncio
import threading
from io import BytesIO

import torch
from PIL import Image

from ridefense import Median
from ridefense.classifiers.preparing import input_of
from ridefense.serve import (
    Answer,
    Prediction,
    Served,
)

PATIENCE = 20.0
"""Seconds after which a test that waits has failed."""


def png(image, **options):
    file = BytesIO()
    image.save(file, format="PNG", **options)
    return file.getvalue()


def digit(level=200):
    image = Image.new("L", (28, 28))
    image.paste(level, (8, 8, 20, 20))
    return image


def served(classifier, purifier=None, seed=5):
    return Served(classifier, purifier or Median(3), input_of(classifier), seed)


class Gate:
    """Answers that are given once the gate is open; an answer tells the mean of its image.

    An image of NaN fails, with all of its batch.
    """

    def __init__(self):
        self.open, self.begun = threading.Event(), threading.Event()
        self.batches, self.abandoned = [], []

    def __call__(self, images, ids, abandoned):
        self.begun.set()
        assert self.open.wait(PATIENCE)
        self.batches.append(list(ids))
        self.abandoned.append(abandoned())
        if any(image.isnan().any() for image in images):
            raise RuntimeError("NaN")
        return [Answer((Prediction(0, "0", float(image.mean())),), False, 0) for image in images]

    async def began(self):
        assert await asyncio.get_running_loop().run_in_executor(None, self.begun.wait, PATIENCE)


def flat(level):
    return torch.full((1, 2, 2), float(level))


def probability(answer):
    return answer.predictions[0].probability
