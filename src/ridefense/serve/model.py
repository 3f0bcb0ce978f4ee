"""A defended classifier as the service asks it: bytes of an image file in, answers out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

from ridefense.classifiers.classifier import Classifier
from ridefense.classifiers.preparing import Input
from ridefense.collapse import is_collapsed
from ridefense.defended import as_purifier
from ridefense.errors import InputError
from ridefense.estimate import estimate
from ridefense.estimators import NetworkPurifier
from ridefense.imagefiles import MAX_PIXELS, header, opened
from ridefense.purifier import Call, Purifier

_SHOWN = 5  # classes of an answer
_NAME = "the upload"


class Refused(InputError):
    """An upload that is not classified.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Prediction:
    """A class and its softmax probability."""

    number: int
    label: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """What was found for one image.

    Attributes:
        predictions: the likeliest classes, at most five, the likeliest first.
        collapsed: whether the purified image has lost the contrast or the colours of the image.
        refits: how often the image was fitted again after a collapse.
    """

    predictions: tuple[Prediction, ...]
    collapsed: bool
    refits: int


class Served:
    """A classifier behind a purifier, with a secret seed.

    Args:
        classifier: in eval mode.
        purifier: an estimator, a filter, a rival, or any callable with their signature.
        takes: what the classifier takes, of `classifiers.preparing.input_of`.
        seed: of all randomness, 0 ≤ seed < 2¹²⁸. It is a secret, so it is part of no `repr`.
    """

    def __init__(
        self, classifier: Classifier, purifier: Purifier | Call, takes: Input, seed: int
    ) -> None:
        self.takes = takes
        self.purifier = as_purifier(purifier)
        self.model = self.purifier.behind(classifier)
        self._device = next((p.device for p in classifier.parameters()), torch.device("cpu"))
        self._seed = seed

    def prepared(self, upload: bytes, pixels: int) -> Tensor:
        """The image of a file, [C, H, W] as the classifier takes it.

        Args:
            upload: the file.
            pixels: the most that it may have.

        Raises:
            Refused: with status 413 for too many pixels, 415 for no image in a format that is
                read, or one of more than 8 bits a channel, 400 for one that cannot be decoded or
                that the classifier does not take.
        """
        try:
            told = header(BytesIO(upload), _NAME)
        except InputError as error:
            raise Refused(415, str(error)) from error
        width, height = told.size
        if not 0 < width * height <= pixels:  # 0 where Pillow refuses to tell
            raise Refused(413, f"{_NAME} has too many pixels; send at most {pixels:,}")
        try:
            image = opened(BytesIO(upload), _NAME)
            return self.takes.prepared(image, _NAME)
        except InputError as error:
            raise Refused(415 if told.unfit else 400, str(error)) from error

    @torch.no_grad()
    def answer(
        self,
        images: Sequence[Tensor],
        ids: Sequence[str],
        abandoned: Callable[[], bool] = lambda: False,
    ) -> list[Answer]:
        """What is found for images [C, H, W], in their order.

        Args:
            images: of `prepared`.
            ids: of the images; with the seed they decide the randomness.
            abandoned: whether nobody waits for the answers any more, so that a fit may stop.
        """
        batch = torch.stack(list(images)).to(self._device)
        refits = [0] * len(batch)
        if isinstance(self.purifier, NetworkPurifier):
            found = self.purifier.estimate(
                batch, ids=ids, seed=self._seed, callback=lambda _: abandoned()
            )
            purified, collapsed = found.value, found.collapsed
            refits = found.attempts.tolist()
        else:
            purified = self.model.purified(batch, ids, self._seed)
            collapsed = is_collapsed(batch, purified)
        probabilities = self.model.classified(purified, ids, self._seed).softmax(dim=1)
        best = probabilities.topk(min(_SHOWN, probabilities.shape[1]), dim=1)
        classes = self.takes.classes
        return [
            Answer(
                tuple(
                    Prediction(number, classes[number], probability)
                    for number, probability in zip(numbers, values, strict=True)
                ),
                lost,
                again,
            )
            for numbers, values, lost, again in zip(
                best.indices.tolist(),
                best.values.tolist(),
                collapsed.tolist(),
                refits,
                strict=True,
            )
        ]

    def warm_up(self) -> None:
        """Classify a grey image after one step of a fit, so that all that is needed is loaded.

        Raises:
            RideError: where the purifier or the classifier does not take the images.
        """
        grey, file = Image.new("L", self.takes.sizing.size[::-1], 128), BytesIO()
        grey.save(file, format="PNG")
        image = self.prepared(file.getvalue(), MAX_PIXELS)[None].to(self._device)
        with torch.no_grad():
            if isinstance(self.purifier, NetworkPurifier):
                settings = self.purifier.for_images(image)
                short = replace(settings, steps=1, rounds=1, refits=0, on_collapse="input")
                image = estimate(short, image).value
            else:
                image = self.model.purified(image, seed=0)
            self.model.classified(image, None, 0)
