"""Which files are purified, and where each result goes."""

import glob
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ridefense.datasets.tree import scan
from ridefense.errors import InputError
from ridefense.files import check_name


@dataclass(frozen=True)
class Task:
    """One file to purify.

    Attributes:
        name: of the result below the output folder, with "/" between folders.
        source: the file.
        target: where the result goes.
    """

    name: str
    source: Path
    target: Path


def tasks_for(
    sources: Iterable[str | os.PathLike[str]], out: Path, suffix: str | None = None
) -> tuple[list[Task], Counter[str]]:
    """The files below an output folder that these sources become, by name, and what is left out.

    Args:
        sources: files, folders, which keep their structure, and patterns, as "photos/**/*.jpg",
            which keep the structure below their first wildcard.
        out: the output folder. What lies in it is no source.
        suffix: of the results, as ".png"; None for their own.

    Returns:
        The tasks, and the other files of folders, counted by their suffixes or another reason.

    Raises:
        InputError: for a source that does not exist, if there is nothing to purify, if two files
            would become one, or if a file would replace itself.
    """
    inside = Path(os.path.realpath(out))
    found: dict[str, Path] = {}
    left_out: Counter[str] = Counter()
    for source in sources:
        files, others = _files(check_name(source), inside)
        left_out += others
        for path, name in files:
            own = name if suffix is None else str(Path(name).with_suffix(suffix))
            if found.setdefault(own, path) != path:
                raise InputError(
                    f"{found[own]} and {path} would both become {out / own}; name the folder that "
                    "holds both, or purify them into two folders"
                )
    if not found:
        raise InputError(f"nothing to purify in {', '.join(map(str, sources))}; name image files")
    tasks = [Task(name.replace(os.sep, "/"), path, out / name) for name, path in found.items()]
    for task in tasks:
        check_inside(task, inside)
    return sorted(tasks, key=lambda task: task.name), left_out


def check_inside(task: Task, out: Path) -> None:
    """Refuse a result that would lie outside the output folder, or replace what it is made of.

    Args:
        out: the real path of the folder.

    Raises:
        InputError: that names the file.
    """
    target = Path(os.path.realpath(task.target))
    if not target.is_relative_to(out):
        raise InputError(f"{task.target} lies outside {out}; remove the link or the ..")
    if target == Path(os.path.realpath(task.source)):
        raise InputError(f"{task.source} would be replaced; choose another output folder")


def _files(source: str, out: Path) -> tuple[list[tuple[Path, str]], Counter[str]]:
    """The files of a source with their names below the output folder, and what is left out."""
    path = Path(source)
    if path.is_dir():
        if Path(os.path.realpath(path)) == out:
            raise InputError(f"{source} is the output folder too; choose another output folder")
        tree = scan(path)
        return _named(tree.images, path, out), tree.left_out
    if path.is_file():
        return [(path, path.name)], Counter()
    if glob.has_magic(source):
        matches = [Path(match) for match in sorted(glob.glob(source, recursive=True))]
        if pairs := _named(filter(Path.is_file, matches), _base(path), out):
            return pairs, Counter()
        raise InputError(f"no file matches {source}; correct the pattern")
    raise InputError(f"{source} is no file; pass the path of an image, a folder or a pattern")


def _named(files: Iterable[Path], base: Path, out: Path) -> list[tuple[Path, str]]:
    """Files with their names below `base`; without those in the output folder if that is there."""
    pairs = [(file, str(file.relative_to(base))) for file in files]
    if not out.is_relative_to(os.path.realpath(base)):
        return pairs
    return [pair for pair in pairs if not Path(os.path.realpath(pair[0])).is_relative_to(out)]


def _base(pattern: Path) -> Path:
    """The part of a pattern before its first wildcard."""
    plain = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        plain.append(part)
    return Path(*plain)
