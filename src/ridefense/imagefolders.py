"""Folders of images: which files, in which order, with which labels."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ridefense.errors import InputError
from ridefense.imagefiles import SUFFIXES, header, opened, photograph, tensor

_SPLITS = {"train": ("train",), "test": ("test", "validation", "val")}
"""The sub-folders that a folder's splits may be in, the first that there is."""


@dataclass(frozen=True)
class Folder:
    """One split of a folder.

    Attributes:
        files: sorted within a class.
        labels: one a file; none where there are no sub-folders.
        classes: names, by label.
        same_size: whether all files have one size; else they are resized and cropped as ImageNet's.
        grey: whether all files are.
    """

    files: list[Path]
    labels: list[int]
    classes: tuple[str, ...]
    same_size: bool
    grey: bool

    def decode(self, i: int) -> Tensor:
        """The image at this place, uint8 [C, H, W]."""
        image = opened(self.files[i], str(self.files[i]), upright=True)
        image = image if self.same_size else photograph(image, str(self.files[i]))
        return tensor(image.convert("L" if self.grey else "RGB"))


def read(given: Path, split: str) -> Folder:
    """A split of a folder that has one sub-folder a class, or none; see `_classes` for the labels.

    Raises:
        InputError: where there is no such split, no image, or one whose header cannot be read.
    """
    root = _split_of(given, split)
    label_of = _classes(root)
    folders = [root / name for name in label_of] or [root]
    paths = [_images_in(folder) for folder in folders]
    files = [path for group in paths for path in group]
    if not files:
        raise InputError(f"{root} holds no images; put {', '.join(sorted(SUFFIXES))} files there")
    groups = zip(label_of.values(), paths, strict=False)  # a flat folder has no label
    labels = [label for label, group in groups for _ in group]
    names = {label: name for name, label in label_of.items()}
    classes = tuple(names.get(label, str(label)) for label in range(max(names, default=-1) + 1))
    shapes = {header(path) for path in files}
    same_size = len({size for size, _ in shapes}) == 1
    return Folder(files, labels, classes, same_size, all(is_grey for _, is_grey in shapes))


def _split_of(root: Path, split: str) -> Path:
    """The sub-folder of a split, or the folder itself, which is "test", where it has none.

    Raises:
        InputError: where it does not have the split.
    """
    found = set(_sub_folders(root))
    if not found or not found <= {name for names in _SPLITS.values() for name in names}:
        if split != "test":
            raise InputError(
                f"{root} has no split {split!r}; put its images into {root}/train and {root}/test"
            )
        return root
    names = [name for name in _SPLITS.get(split, (split,)) if name in found]
    if not names:
        raise InputError(f"{root} has no split {split!r}; it has {', '.join(sorted(found))}")
    return root / names[0]


def _sub_folders(root: Path) -> list[str]:
    """The names of those that are not hidden, sorted."""
    entries = (e for e in root.iterdir() if e.is_dir() and not e.name.startswith("."))
    return sorted(entry.name for entry in entries)


def _images_in(folder: Path) -> list[Path]:
    """The image files at any depth, sorted, without hidden ones."""
    inside = (path.relative_to(folder) for path in folder.rglob("*"))
    shown = (p for p in inside if not any(part.startswith(".") for part in p.parts))
    return sorted(folder / p for p in shown if p.suffix.lower() in SUFFIXES)


def _classes(root: Path) -> dict[str, int]:
    """The label of each sub-folder by its name, in the order of the labels.

    The number that it is named by where all are, so that a class may be missing; else its place
    among the sorted names, as torchvision's ImageFolder has it.
    """
    names = _sub_folders(root)
    # Greater ones, as dates, number no classes.
    if not all(name.isascii() and name.isdecimal() and int(name) < 10**6 for name in names):
        return {name: label for label, name in enumerate(names)}
    found: dict[int, str] = {}
    for name in names:
        other = found.setdefault(int(name), name)
        if other != name:
            raise InputError(f"{root} has class {int(name)} as {other} and {name}; keep one")
    return {found[label]: label for label in sorted(found)}
