"""Run folders: what was declared, and one row for each (image, attack, seed), safe against a kill.

A folder holds `run.json` (the settings and versions that decide the numbers), `records.jsonl` (a
JSON object a line, only ever appended to) and `images/` (the images of each row, without loss). A
row is written and synchronised to the disk once its images are, so a killed run leaves at most one
torn line, at the end; the next run cuts it off and goes on. One process writes at a time.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ridefense.describe import Plain, differences
from ridefense.errors import InputError
from ridefense.evaluate.rows import CLEAN, UNREADABLE, Key, Row
from ridefense.files import FolderLock, Journal, write_atomically

FORMAT = 1
"""Of run folders; a folder of another format is refused."""

_LABEL = re.compile(r"[a-z0-9][a-z0-9._+-]*")


@dataclass(frozen=True)
class RunFolder:
    """A run folder as it was read.

    Attributes:
        folder: where it is.
        settings: what was declared, see `Evaluation.settings`.
        attacks: the attacks' settings by label.
        versions: of the packages that decide the numbers.
        rows: all of them, by attack as declared (clean first), seed and image.
    """

    folder: Path
    settings: Plain
    attacks: dict[str, Plain]
    versions: Plain
    rows: tuple[Row, ...]

    @property
    def unreadable(self) -> set[int]:
        """The images that could not be decoded."""
        return {row.image for row in self.rows if UNREADABLE in row.faults}

    @property
    def has_images(self) -> bool:
        """Whether they are there: published records may leave them out."""
        return (self.folder / "images").exists()

    def images(self, row: Row) -> dict[str, Tensor]:
        """float [C, H, W] in [0, 1]: "final" and "purified" (in the first draw).

        Nothing for an image that could not be decoded.

        Raises:
            InputError: where the file is missing or damaged.
        """
        path = self.folder / image_path(row.key)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); delete its row, or compute the run anew"
            ) from error


def packed(images: Mapping[str, Tensor]) -> bytes:
    """A row's images as a file of safetensors, whatever their device and layout."""
    return save({name: image.detach().cpu().contiguous() for name, image in images.items()})


def image_path(key: Key) -> Path:
    """Where a row's images are, relative to its folder and never outside of it."""
    attack, seed, image = key
    if not _LABEL.fullmatch(attack):
        raise InputError(f"attack label {attack!r} is no file name; use letters, digits, . _ + -")
    return Path("images", attack, f"{int(seed)}", f"{int(image)}.safetensors")


@dataclass
class Records:
    """A run folder that is being written to; use as a context manager."""

    run: RunFolder
    _lock: FolderLock
    _journal: Journal
    _keys: set[Key] = field(default_factory=set)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], declared: Plain) -> Self:
        """Create a run folder, or go on with one of the same declaration.

        Args:
            folder: created where it is missing.
            declared: "settings", "versions" and "attacks" as JSON data. Attacks may be added to a
                folder; everything else must be as it was, unless there is no row yet.

        Raises:
            InputError: where another process writes to the folder, where it holds records of
                other settings or of another format, or where one of its lines is damaged.
            RideError: where it cannot be written to.
        """
        folder = Path(folder)
        lock = FolderLock(folder, wait=False)
        try:
            declared = _agreed(folder, declared)
            rows, sound = _rows(folder, _content(folder), declared["attacks"])
            write_atomically(folder / "run.json", json.dumps(declared, indent=1).encode())
            journal = Journal(folder / "records.jsonl", sound)
        except BaseException:
            lock.release()
            raise
        run = _run(folder, declared, rows)
        return cls(run, lock, journal, {row.key for row in rows})

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def append(self, row: Row, images: Mapping[str, Tensor]) -> None:
        """Keep a row and its images [C, H, W]; once this returns, a kill does not lose them.

        Raises:
            InputError: where there is a row of that key.
            RideError: where it cannot be written; what was there stays sound.
        """
        if row.key in self:
            raise InputError(f"there is a row for {row.key} already; each is written once")
        line = row.line()
        write_atomically(self.run.folder / image_path(row.key), packed(images))
        self._journal.append(line)
        self._keys.add(row.key)

    def close(self) -> None:
        self._journal.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(folder: str | os.PathLike[str]) -> RunFolder:
    """A run folder, which another process may be writing to; a torn last line is left out.

    Raises:
        InputError: where it is no run folder of this format, or a line is damaged.
    """
    folder = Path(folder)
    content = _content(folder)  # first: what run.json declares may grow, but only before its rows
    declared = _declared(folder)
    return _run(folder, declared, _rows(folder, content, declared["attacks"])[0])


def find(folder: str | os.PathLike[str]) -> list[Path]:
    """The run folders at or below a folder, sorted.

    Raises:
        InputError: where there are none.
    """
    found = sorted(path.parent for path in Path(folder).rglob("run.json"))
    if not found:
        raise InputError(f"{folder} holds no runs; pass what was given to evaluate as --out")
    return found


def _agreed(folder: Path, declared: Plain) -> Plain:
    """What the folder is to declare from now on: as before, with any new attacks.

    Where no row was ever finished there is nothing to keep to.
    """
    declared = {"format": FORMAT, **json.loads(json.dumps(declared))}
    old = _declared(folder) if (folder / "run.json").exists() else None
    if b"\n" not in _content(folder):
        return declared
    if old is None:
        raise InputError(f"{folder} has records without run.json; choose another folder")
    told = _as_told(old, declared)
    for part in ("settings", "versions"):
        for name, had, given in differences(old[part], told[part]):
            raise InputError(
                f"{folder} holds records with {name} {had!r}, not {given!r}; "
                "choose another folder or the same setting"
            )
    return {**old, "attacks": old["attacks"] | declared["attacks"]}


def _as_told(old: Plain, declared: Plain) -> Plain:
    """What is declared without what the folder's older version of ridefense did not note."""
    settings, noted = declared["settings"], old["settings"].get("dataset", {})
    images = {k: v for k, v in settings.get("dataset", {}).items() if k != "content" or k in noted}
    versions = {k: v for k, v in declared["versions"].items() if k in old["versions"]}
    if images:
        settings = settings | {"dataset": images}
    return {"settings": settings, "versions": versions}


def _declared(folder: Path) -> Plain:
    path = folder / "run.json"
    try:
        declared = json.loads(path.read_bytes(), parse_int=_number)
    except FileNotFoundError as error:
        raise InputError(f"{folder} is no run folder: it has no run.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); restore it") from error
    version = declared.get("format") if isinstance(declared, dict) else None
    if version != FORMAT:
        raise InputError(
            f"{path} has format {version!r}, this version of ridefense reads {FORMAT}; "
            "use the version that wrote it, or another folder"
        )
    parts = [declared.get(part) for part in ("settings", "versions", "attacks")]
    if not all(isinstance(part, dict) for part in parts) or not all(
        _LABEL.fullmatch(label) and isinstance(attack, dict) for label, attack in parts[2].items()
    ):
        raise InputError(f"{path} does not declare settings, versions and attacks; restore it")
    return declared


def _number(text: str) -> int:
    if len(text) > len(str(2**128)):
        raise ValueError("a number beyond 128 bits")
    return int(text)


def _content(folder: Path) -> bytes:
    path = folder / "records.jsonl"
    return path.read_bytes() if path.exists() else b""


def _rows(folder: Path, content: bytes, attacks: Plain) -> tuple[list[Row], int]:
    """All rows, and the length in bytes of the sound part of the file."""
    path = folder / "records.jsonl"
    lines = content.split(b"\n")
    torn = lines.pop()
    rows, seen, sound = [], set(), 0
    for number, line in enumerate(lines, 1):
        try:
            row = Row.parse(line)
            if row.attack != CLEAN and row.attack not in attacks:
                raise ValueError(f"run.json declares no attack {row.attack!r}")
            if row.key in seen:
                raise ValueError(f"a second row for {row.key}")
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not torn:  # its end reached the disk before its middle
                break
            raise InputError(
                f"line {number} of {path} is damaged ({error}); "
                "restore the file, or delete the line and have it computed anew"
            ) from error
        rows.append(row)
        seen.add(row.key)
        sound += len(line) + 1
    return rows, sound


def _run(folder: Path, declared: Plain, rows: list[Row]) -> RunFolder:
    order = {label: i for i, label in enumerate((CLEAN, *declared["attacks"]))}
    ordered = sorted(rows, key=lambda row: (order[row.attack], row.seed, row.image))
    attacks, settings, versions = (declared[p] for p in ("attacks", "settings", "versions"))
    return RunFolder(folder, settings, attacks, versions, tuple(ordered))
