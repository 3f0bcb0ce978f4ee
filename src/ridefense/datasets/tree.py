"""What a folder holds: files that may be images, and what is left out and why."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ridefense.errors import InputError
from ridefense.imagefiles import looks_like_image, named_as_image

_OUTPUT = {"run.json", "audit.json", "plan.json", "records.jsonl", "report.html"}
_MARKS = {
    **dict.fromkeys(_OUTPUT, "output of ridefense"),
    "index.html": "a web site",
    "pyvenv.cfg": "a Python environment",
}
"""Files whose folder is no data, and what it is."""
_JUNK = {"__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "lost+found", "node_modules"}
"""Folders that systems and tools leave behind."""
_JUNK_FILES = {"thumbs.db", "desktop.ini"}


@dataclass
class Tree:
    """A folder without what is no data.

    Attributes:
        path: of the folder.
        files: that may be images, by name or by content; sorted.
        others: the suffixes of the other files, and other reasons to leave files out, counted.
        folders: by name, sorted; those that are no data are not among them.
        pruned: the folders in it that are no data, and what they are.
    """

    path: Path
    files: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    folders: dict[str, "Tree"] = field(default_factory=dict)
    pruned: dict[Path, str] = field(default_factory=dict)

    def walk(self) -> Iterator["Tree"]:
        """Itself and all folders below."""
        yield self
        for folder in self.folders.values():
            yield from folder.walk()

    @property
    def images(self) -> list[Path]:
        """The files that may be images, here and below, sorted."""
        return sorted(path for tree in self.walk() for path in tree.files)

    @property
    def has_images(self) -> bool:
        return any(tree.files for tree in self.walk())

    @property
    def filled(self) -> dict[str, "Tree"]:
        """The folders that hold images, at any depth."""
        return {name: folder for name, folder in self.folders.items() if folder.has_images}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing at all, here and below."""
        return not any(tree.files or tree.others or tree.pruned for tree in self.walk())

    @property
    def left_out(self) -> Counter[str]:
        """The other files here and below, counted by their reasons."""
        return sum((tree.others for tree in self.walk()), Counter[str]())


def scan(root: Path) -> Tree:
    """What a folder holds.

    What is hidden (its name begins with a dot) or left by a system is not counted. A link is
    followed, unless it leads back into the folder: then its target is there already.

    Raises:
        InputError: for a folder that cannot be listed, or that is no data as a whole.
    """
    entries = _entries(root)
    if what := _no_data(entries):
        raise InputError(f"{root} is {what}; name a folder that holds only images")
    return _scan(root, entries, {Path(os.path.realpath(root))})


def _scan(path: Path, entries: list[os.DirEntry[str]], known: set[Path]) -> Tree:
    """As `scan`; `known` are the targets that need no second visit."""
    tree = Tree(path)
    for entry in entries:
        name, place = entry.name, path / entry.name
        if name.startswith(".") or name in _JUNK or name.lower() in _JUNK_FILES:
            continue
        if entry.is_symlink() and (why := _bad_link(place, known)):
            tree.others[why] += 1
        elif entry.is_dir():
            inside = _entries(place)
            if what := _no_data(inside):
                tree.pruned[place] = what
            else:
                tree.folders[name] = _scan(place, inside, known)
        elif not entry.is_file():
            tree.others["no regular file"] += 1
        elif named_as_image(place) or looks_like_image(place):
            tree.files.append(place)
        else:
            tree.others[place.suffix.lower() or "without a suffix"] += 1
    return tree


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"folder {folder} cannot be listed ({error.strerror}); correct its permissions"
        ) from error


def _no_data(entries: list[os.DirEntry[str]]) -> str | None:
    """What a folder with these entries is instead of data."""
    return next((_MARKS[e.name] for e in entries if e.name in _MARKS and e.is_file()), None)


def _bad_link(link: Path, known: set[Path]) -> str | None:
    """Why a link is not followed; one that is followed becomes known."""
    target = Path(os.path.realpath(link))
    if not target.exists():
        return "broken links"
    if known.intersection((target, *target.parents)) or any(
        path.is_relative_to(target) for path in known if target.is_dir()
    ):
        return "links to what is here already"
    known.add(target)
    return None
