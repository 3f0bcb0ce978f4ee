"""Which level of a folder names splits, and which classes.

Nothing is guessed. Where a folder can be read in two ways, the error names both.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ridefense.datasets.splits import Kind, is_filler, kind_of
from ridefense.datasets.tree import Tree
from ridefense.errors import InputError

FLAT = ""
"""The only "class" of images without labels."""


@dataclass(frozen=True)
class Part:
    """A split, or a whole folder that has none.

    Attributes:
        path: of its folder, for errors.
        groups: the folder of each class by its name; of `FLAT` alone where there are no labels.
        left_out: files that no class holds, counted by their reasons.
    """

    path: Path
    groups: Mapping[str, Tree]
    left_out: Counter[str]


def parts_of(tree: Tree) -> dict[Kind | None, Part]:
    """The parts of a folder by the split that they are; by None where it has no splits."""
    named = {name: kind for name in tree.folders if (kind := kind_of(name))}
    filled = tree.filled
    others = [name for name in filled if name not in named]
    if named and others:
        # One folder "train" among others that hold images themselves is a class of trains.
        if len(named) > 1 or not all(_is_leaf(tree.folders[name]) for name in named):
            raise InputError(
                f"{tree.path} has {listed(named)}, named as splits, beside {listed(others)}: "
                "they could be splits or classes; move the others away, or rename the splits"
            )
    elif named:
        return _named_parts(tree, named)
    elif len(filled) == 1 and not tree.files:
        (only,) = filled.values()
        if not only.files:  # a level more than is needed
            parts = parts_of(only)
            return {kind: _with(part, _beside(tree, filled)) for kind, part in parts.items()}
    return _part(tree)


def _named_parts(tree: Tree, named: Mapping[str, Kind]) -> dict[Kind | None, Part]:
    """The parts in folders that are named as splits."""
    parts: dict[Kind | None, Part] = {}
    for name, kind in named.items():
        folder = tree.folders[name]
        if kind in parts:
            raise InputError(
                f"{tree.path} has its {kind} split twice: {parts[kind].path.name} and {name}; "
                "keep one"
            )
        inner = parts_of(_unwrapped(folder, kind))
        if set(inner) != {None}:
            raise InputError(
                f"{folder.path} has splits inside a split ({listed(map(str, inner))}); keep one"
            )
        parts[kind] = _with(inner[None], _beside(tree, named) if folder.has_images else Counter())
    return parts


def _unwrapped(folder: Tree, kind: Kind) -> Tree:
    """A split's folder, or the one in it that has its name once more."""
    if not folder.files and len(filled := folder.filled) == 1:
        ((name, only),) = filled.items()
        if kind_of(name) == kind:
            return only
    return folder


# --- Classes -------------------------------------------------------------------------------------


def _part(tree: Tree) -> dict[Kind | None, Part]:
    """A folder without splits above its classes: as one part, or as splits inside its classes."""
    filled = tree.filled
    empty = {name: folder for name, folder in tree.folders.items() if folder.is_empty}
    if len(filled) == 1 and not tree.files and not empty:
        ((name, only),) = filled.items()
        if is_filler(name):
            return {None: _with(_part(only)[None], _beside(tree, filled))}
    if not filled:
        return {None: Part(tree.path, {FLAT: tree} if tree.files else empty, tree.left_out)}
    if tree.files and len(filled) == 1:
        raise InputError(
            f"{tree.path} holds {len(tree.files)} images itself and others in "
            f"{listed(filled)}, which could be a class or more of the same; move one of them away"
        )
    left_out = _beside(tree, (*filled, *empty))
    if all(not f.files and all(map(kind_of, f.filled)) for f in filled.values()):
        return _splits_inside(tree, filled, left_out)
    if deep := {name: f for name, f in filled.items() if not _holds_images(f)}:
        outer, inner = listed(filled), listed(next(iter(deep.values())).filled)
        raise InputError(
            f"{tree.path} has folders in folders: the classes could be {outer} or {inner}; "
            "keep one level of folders, one a class"
        )
    for name, folder in filled.items():
        for below in list(folder.walk())[1:]:
            if below.path.name in filled and below.path.name != name:
                raise InputError(
                    f"{below.path} could be of class {name} or {below.path.name}; move it"
                )
        left_out += folder.left_out
    return {None: Part(tree.path, filled | empty, left_out)}


def _holds_images(folder: Tree) -> bool:
    """Whether a folder is a class: it holds images, or only folders inside one another do."""
    while not folder.files:
        filled = folder.filled
        if len(filled) != 1:
            return False
        (folder,) = filled.values()
    return True


def _is_leaf(folder: Tree) -> bool:
    return bool(folder.files) and not folder.folders


def _splits_inside(
    tree: Tree, classes: Mapping[str, Tree], left_out: Counter[str]
) -> dict[Kind | None, Part]:
    groups: dict[Kind | None, dict[str, Tree]] = {}
    for label, folder in classes.items():
        for name, inner in folder.filled.items():
            kind = kind_of(name)
            if label in groups.setdefault(kind, {}):
                raise InputError(f"{folder.path} has its {kind} split twice; keep one")
            groups[kind][label] = inner
    return {kind: Part(tree.path, found, Counter(left_out)) for kind, found in groups.items()}


def _beside(tree: Tree, used: Iterable[str]) -> Counter[str]:
    """What a folder holds beside these sub-folders, counted by reasons."""
    used = set(used)
    found = Counter(tree.others)
    named: dict[str, list[str]] = {}
    for name, folder in tree.folders.items():
        if name not in used:
            for why in folder.left_out:
                named.setdefault(why, []).append(name)
    # A folder may have been meant as a class, which moves the labels of those after it.
    for why, names in named.items():
        count = sum(tree.folders[name].left_out[why] for name in names)
        found[f"{why} in {listed(names, 2)}, without images"] = count
    for path in tree.files:
        found[f"beside the folders ({path.suffix.lower()})"] += 1
    return found


def _with(part: Part, left_out: Counter[str]) -> Part:
    return Part(part.path, part.groups, part.left_out + left_out)


def listed(names: Iterable[str], most: int = 5) -> str:
    """The first of some names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
