"""Folders of images as data sets: which files are used, and their labels."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ridefense.datasets.dataset import Dataset
from ridefense.datasets.layout import FLAT, Part, listed, parts_of
from ridefense.datasets.preparation import Preparation, prepare
from ridefense.datasets.splits import Kind, wanted
from ridefense.datasets.tree import scan
from ridefense.errors import InputError
from ridefense.imagefiles import Header, Sizing, header, opened, readable_suffixes

_NUMBERED = re.compile(r"(\D*)(\d{1,9})(\D*)", re.ASCII)


@dataclass(frozen=True)
class Files:
    """Decodes the images of a folder by their place in it."""

    paths: Sequence[Path]
    preparation: Preparation

    def __call__(self, i: int) -> Tensor:
        name = str(self.paths[i])
        return self.preparation(opened(name, name), name)


def read(root: Path, split: str, sizing: Sizing | None = None) -> Dataset:
    """A split of a folder of images.

    Args:
        root: one sub-folder a class; or none, for images without labels; or such folders in
            sub-folders that are named as splits.
        split: "train", "test" or another usual name. A folder with no "test" answers with its
            validation split, a folder without splits is "test".
        sizing: see `prepare`.

    Raises:
        InputError: where there is no such split or no image, where the classes of splits differ,
            and where the folders can be read in two ways.
    """
    tree = scan(root)
    parts = parts_of(tree)
    kind = _chosen(root, parts, split)
    part = parts[kind]
    classes, label_of = _labels(root, parts, kind)
    paths: list[Path] = []
    labels: list[int] = []
    headers: list[Header] = []
    left_out = Counter(part.left_out)
    rejected: dict[str, list[Path]] = {}
    for name in sorted(part.groups, key=lambda name: label_of.get(name, 0)):
        usable, unusable = _headers(part.groups[name].images)
        if unusable and not usable and name != FLAT:
            raise InputError(
                f"{part.path} has no image of class {name} that can be used "
                f"({_reasons(unusable, root)}); convert them to PNG, or remove the class"
            )
        for why, found in unusable.items():
            rejected.setdefault(why, []).extend(found)
        paths += usable
        headers += usable.values()
        if name in label_of:
            labels += [label_of[name]] * len(usable)
    if not paths:
        why = f" that can be used ({_reasons(rejected, root)})" if rejected else ""
        raise InputError(
            f"{part.path} holds no images{why}; put .png, .jpg or other image files there"
        )
    left_out.update({_reason(why, found, root): len(found) for why, found in rejected.items()})
    notes = (*_missing(part, classes, labels), *_order(classes), *_deeper(part, paths))
    if kind and kind != wanted(split)[0]:
        notes = (f"its {kind} split", *notes)
    pruned: dict[str, list[Path]] = {}
    for path, what in (item for below in tree.walk() for item in below.pruned.items()):
        pruned.setdefault(what, []).append(path.relative_to(root))
    notes += tuple(f"without {listed(map(str, p), 2)} ({what})" for what, p in pruned.items())
    preparation = prepare(headers, sizing, left_out, notes)
    return Dataset(
        name=str(root),
        title=root.resolve().name,
        split=split,
        classes=classes,
        ids=torch.arange(len(paths)),
        labels=torch.tensor(labels, dtype=torch.int64),
        decode=Files(paths, preparation),
        prepared=preparation,
    )


def _chosen(root: Path, parts: Mapping[Kind | None, Part], split: str) -> Kind | None:
    """Which of the parts answers a request for a split."""
    asked = wanted(split)
    if None in parts:
        if asked[:1] == ("test",):
            return None
        raise InputError(
            f"{root} has no split {split!r}; put its images into {root}/train and {root}/test"
        )
    found = [kind for kind in asked if kind in parts and parts[kind].groups]
    if not found:
        has = listed(dict.fromkeys(part.path.name for part in parts.values()))
        raise InputError(f"{root} has no split {split!r}; it has {has}")
    return found[0]


# --- Labels --------------------------------------------------------------------------------------


def _labels(
    root: Path, parts: Mapping[Kind | None, Part], kind: Kind | None
) -> tuple[tuple[str, ...], dict[str, int]]:
    """The names of the classes in the order of their labels, and each folder's label.

    The classes are those of the training split.
    """
    names = {kind: set(part.groups) - {FLAT} for kind, part in parts.items()}
    whole = names.get("train") or set().union(*names.values())
    if not names[kind]:
        return (), {}
    if extra := sorted(names[kind] - whole):
        raise InputError(
            f"{root} has {listed(extra)} in its {kind} split but not in train; "
            "splits need the same classes"
        )
    if not names.get("train") and whole not in names.values():
        missing = ", ".join(f"{k} lacks {listed(whole - n)}" for k, n in names.items() if n)
        raise InputError(f"the splits of {root} have other classes: {missing}; make them equal")
    labels = _numbered(root, whole) or {name: i for i, name in enumerate(sorted(whole))}
    forms: dict[str, str] = {}
    for name in sorted(whole):
        if forms.setdefault(unicodedata.normalize("NFC", name), name) != name:
            raise InputError(
                f"{root} has two classes {name!r}, whose names differ only in how Unicode writes "
                "them; keep one"
            )
    by_label = {label: name for name, label in labels.items()}
    return tuple(by_label.get(i, str(i)) for i in range(max(by_label) + 1)), labels


def _numbered(root: Path, names: set[str]) -> dict[str, int] | None:
    """The labels of folders that are named by them; None where the names are no numbers.

    Raises:
        InputError: for two folders of one number, and where some names are numbers and others not.
    """
    # Greater ones, as dates, number no classes.
    numbers = {n: int(n) for n in names if n.isascii() and n.isdecimal() and int(n) < 10**6}
    if len(numbers) < len(names):
        places = {name: i for i, name in enumerate(sorted(names))}
        if wrong := [name for name, number in numbers.items() if number != places[name]]:
            other = min(names - numbers.keys())
            name = min(wrong)
            raise InputError(
                f"{root} has folders with numbers and with names, {name} and {other}: {name} could "
                f"be class {numbers[name]} or, in the order of names, class {places[name]}; "
                "number all or none"
            )
        return None
    by_number: dict[int, str] = {}
    for name, number in sorted(numbers.items()):
        if number in by_number:
            raise InputError(
                f"{root} has class {number} as {by_number[number]} and {name}; keep one"
            )
        by_number[number] = name
    if len(numbers) > 1 and sorted(by_number) == list(range(1, len(numbers) + 1)):
        raise InputError(
            f"{root} has classes 1 to {len(numbers)}, which could be counted from 1 or lack "
            "class 0; name them from 0, or add an empty folder 0"
        )
    return numbers


def _missing(part: Part, classes: Sequence[str], labels: Sequence[int]) -> tuple[str, ...]:
    """A note on classes that have no images in this part."""
    without = [classes[i] for i in sorted(set(range(len(classes))) - set(labels))]
    named = [name for name in without if not name.isdecimal()]
    if not classes or not named:
        return ()
    return (f"none of class {listed(named)}",)


def _order(classes: Sequence[str]) -> tuple[str, ...]:
    """A note on names whose numbers are not in the order of the labels, as s1, s10, s2."""
    parts = [_NUMBERED.fullmatch(name) for name in classes]
    found = [(part[1], part[3], int(part[2])) for part in parts if part]
    if len(found) < len(classes) or len({part[:2] for part in found}) != 1:
        return ()
    return (f"classes in the order of names: {listed(classes, 3)}",) * (found != sorted(found))


def _deeper(part: Part, paths: Iterable[Path]) -> tuple[str, ...]:
    """A note on images in folders inside a class that holds images itself, as thumbnails."""
    mixed = {group.path for group in part.groups.values() if group.files}
    deeper = [p for p in paths if p.parent not in mixed and mixed.intersection(p.parents)]
    if not deeper:
        return ()
    return (f"{len(deeper)} from folders inside a class (as {deeper[0].relative_to(part.path)})",)


def _headers(paths: Iterable[Path]) -> tuple[dict[Path, Header], dict[str, list[Path]]]:
    """The headers of the files that can be used, and the other files by why they cannot."""
    usable: dict[Path, Header] = {}
    unusable: dict[str, list[Path]] = {}
    for path in paths:
        try:
            found = header(path, str(path))
            why = found.unfit and f"with {found.unfit}"
        except InputError:
            suffix = path.suffix.lower()
            why = "unreadable" if suffix in readable_suffixes() else suffix
        if why:
            unusable.setdefault(why, []).append(path)
        else:
            usable[path] = found
    return usable, unusable


def _reason(why: str, paths: Sequence[Path], root: Path) -> str:
    """A reason to leave files out, with the name of the first."""
    return f"{why} ({'as ' if len(paths) > 1 else ''}{paths[0].relative_to(root)})"


def _reasons(rejected: Mapping[str, Sequence[Path]], root: Path) -> str:
    return ", ".join(f"{len(paths)} {_reason(w, paths, root)}" for w, paths in rejected.items())
