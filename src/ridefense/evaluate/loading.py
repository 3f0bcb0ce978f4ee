"""Images and classifiers of an evaluation, kept between its chunks and between evaluations.

What is kept is known by its content: a file that has changed since is read again, and a function of
the user's is called again, whenever an evaluation begins.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import torch

from ridefense import classifiers, datasets
from ridefense.classifiers import Classifier, Expected
from ridefense.datasets import Dataset
from ridefense.describe import describe_by_weights, fingerprint
from ridefense.errors import InputError
from ridefense.imagefiles import Sizing

_SAMPLE = 16
"""Images whose pixels a run is known by: enough to tell one copy of a data set from another."""

_KEPT = 2

_T = TypeVar("_T")


@dataclass(frozen=True)
class Drawn:
    """What decides which images are loaded; see `datasets.load`."""

    dataset: str
    split: str
    limit: int | None
    image_seed: int
    per_class: int | None
    size: int | None
    stride: int = 1


@dataclass(frozen=True)
class Loaded:
    """Images, still encoded, and a classifier on its device that takes them.

    Attributes:
        classes: how many the classifier has, which may be more than the images have.
    """

    images: Dataset
    classifier: Classifier
    classes: int

    @cached_property
    def drawn(self) -> str:
        """A fingerprint of which images these are, by their ids and labels."""
        return fingerprint({"ids": self.images.ids, "labels": self.images.labels})

    @cached_property
    def content(self) -> str:
        """A fingerprint of the pixels of some images, spread over all of them."""
        places = torch.linspace(0, len(self.images) - 1, min(_SAMPLE, len(self.images))).long()
        found = {}
        for place in places.tolist():
            with suppress(InputError):  # it cannot be decoded, as its row will say
                found[str(place)] = self.images[place : place + 1].bytes
        return fingerprint(found)

    @cached_property
    def weights(self) -> str:
        """A fingerprint of the classifier's weights."""
        return str(describe_by_weights(self.classifier)["weights"])


class _Kept(Generic[_T]):
    """The last few values by key, each with the state of what it was made from."""

    def __init__(self) -> None:
        self.values: OrderedDict[Hashable, tuple[Hashable, _T]] = OrderedDict()

    def get(self, key: Hashable, state: Callable[[], Hashable], make: Callable[[], _T]) -> _T:
        """The value of a key, made if there is none; `state` is asked only by `renewed`."""
        if key not in self.values:
            return self.renewed(key, state, make)
        self.values.move_to_end(key)
        return self.values[key][1]

    def renewed(self, key: Hashable, state: Callable[[], Hashable], make: Callable[[], _T]) -> _T:
        """As `get`, but made anew if the state differs or is None, which is no state to go by."""
        now = state()
        if now is None or key not in self.values or self.values[key][0] != now:
            self.values.pop(key, None)  # before another is made, so that both need not fit
            self.values[key] = now, make()
        self.values.move_to_end(key)
        while len(self.values) > _KEPT:
            self.values.popitem(last=False)
        return self.values[key][1]


_images: _Kept[Dataset] = _Kept()
_classifiers: _Kept[Classifier] = _Kept()
_pairs: _Kept[Loaded] = _Kept()


def load(drawn: Drawn, name: str, device: str, *, check: bool) -> Loaded:
    """The images and the classifier of an evaluation.

    Args:
        check: whether to read again what has changed on the disk since it was read.

    Raises:
        InputError: if one is missing or they do not fit together.
    """

    def classifier() -> Classifier:
        return _classifiers.renewed(
            (name, device), lambda: _state_of_classifier(name), lambda: classifiers.load(name)
        )

    def pair() -> tuple[Dataset, Classifier]:
        # What is known without the weights is compared before they are downloaded.
        known = classifiers.expected(name)
        sizing = _sizing(drawn, known or classifier())
        images = _images.renewed(
            (drawn, sizing), lambda: _state(drawn.dataset), lambda: _read(drawn, sizing)
        )
        if known is not None:
            _check_classes(drawn.dataset, images, name, known.classes)
        return images, classifier()

    key = drawn, name, device
    if not check:
        return _pairs.get(key, lambda: tuple(map(id, pair())), lambda: _fitted(*pair(), key))
    found = pair()
    return _pairs.renewed(key, lambda: tuple(map(id, found)), lambda: _fitted(*found, key))


def _sizing(drawn: Drawn, classifier: Classifier | Expected) -> int | Sizing | None:
    """The size that is asked for, or else the one that the classifier was made for.

    Small images of the paper's data sets keep their own size.
    """
    if drawn.size is None and datasets.family(drawn.dataset) in ("MNIST", "CIFAR-10"):
        return None
    return drawn.size or classifier.sizing


def _read(drawn: Drawn, sizing: int | Sizing | None) -> Dataset:
    images = datasets.load(
        drawn.dataset,
        drawn.split,
        drawn.limit,
        drawn.image_seed,
        per_class=drawn.per_class,
        size=sizing,
        stride=drawn.stride,
    )
    if not len(images.labels):
        raise InputError(f"{images.title} has no labels; an evaluation needs true classes")
    return images


def _fitted(images: Dataset, classifier: Classifier, key: tuple[Drawn, str, str]) -> Loaded:
    drawn, name, device = key
    try:
        classifier = classifier.to(device)
        shown = classifiers.readable(images, 2).to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device} cannot be used ({reason}); use cpu or cuda") from error
    classes = classifiers.probe(classifier, shown)
    _check_classes(drawn.dataset, images, name, classes)
    return Loaded(images, classifier, classes)


def _check_classes(dataset: str, images: Dataset, name: str, classes: int) -> None:
    """Refuse images whose labels are not those of the classifier."""
    if dataset not in datasets.names():
        classifiers.check_classes(images, name, classes)
    elif len(images.classes) != classes:  # none of theirs is left out
        raise InputError(
            f"{name} has {classes} classes, {images.title} has {len(images.classes)}; "
            "choose a classifier made for these images"
        )


def _state_of_classifier(name: str) -> Hashable:
    """The state of the file that the weights are read from; None for a function of the user's."""
    path = classifiers.file_of(name)
    if path is not None:
        return _state(path)
    return None if classifiers.is_own(name) else name


def _state(path: str | Path) -> Hashable:
    """What changes with a file, or with any file of a folder; of a known name, the name."""
    if not os.path.exists(path):
        return str(path)
    if os.path.isfile(path):
        return _stamp(os.stat(path))
    return tuple(
        (folder, name, _stamp(os.stat(os.path.join(folder, name))))
        for folder, _, names in sorted(os.walk(path, followlinks=True))
        for name in ["", *sorted(names)]  # the folder itself too: it may be empty
        if os.path.exists(os.path.join(folder, name))
    )


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
