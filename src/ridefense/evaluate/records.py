"""Run folders: what was declared, and one row for each (image, attack, seed), safe against a kill.

A folder holds `run.json` (the settings and versions that decide the numbers, see `identity`, and
who computed them), `records.jsonl` (a JSON object a line, only ever appended to) and `images/` (the
images of each row, without loss). A row is written and synchronised to the disk once its images
are, so a killed run leaves at most one torn line, at the end, which the next run cuts off. One
process writes at a time.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeAlias, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ridefense.describe import Plain
from ridefense.errors import InputError
from ridefense.evaluate import identity
from ridefense.evaluate.lines import CLEAN, DEFENCE_FAILED, UNREADABLE, Key, Line
from ridefense.evaluate.rows import Row
from ridefense.files import FolderLock, Journal, write_atomically, write_together

R = TypeVar("R", bound=Line)


@dataclass(frozen=True)
class RecordFolder(Generic[R]):
    """A record folder as it was read.

    Attributes:
        folder: where it is.
        settings: what was declared, see `Evaluation.declared`; with all defaults.
        attacks: the attacks by label, see `Threat.settings`; with all defaults.
        versions: of the packages that decide the numbers.
        rows: all of them, by attack as declared (clean first), seed and image.
        provenance: who computed them, see `provenance`: an entry for each time that rows were
            added. Records of schema 1 have none.
    """

    folder: Path
    settings: Plain
    attacks: dict[str, Plain]
    versions: Plain
    rows: tuple[R, ...]
    provenance: tuple[Plain, ...] = ()

    def label(self, threat: Plain) -> str | None:
        """The label of an attack, as `Threat.recorded` or `Threat.settings` tells it, in this
        folder; None if it has none."""
        wanted = identity.key(threat)
        return next((n for n, own in self.attacks.items() if identity.key(own) == wanted), None)

    @property
    def unreadable(self) -> set[int]:
        """The images that could not be decoded."""
        return {row.image for row in self.rows if UNREADABLE in row.faults}

    @property
    def has_images(self) -> bool:
        """Whether they are there: published records may leave them out."""
        return (self.folder / "images").exists()

    def images(self, row: R) -> dict[str, Tensor]:
        """float [C, H, W] in [0, 1]: "final" and "purified" (in the first draw).

        Nothing for an image that could not be decoded, or whose defence ended in an error.

        Raises:
            InputError: where the file is missing or damaged.
        """
        path = self.folder / image_path(row.key)
        if not {UNREADABLE, DEFENCE_FAILED}.isdisjoint(row.faults):
            return {}
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path} cannot be read ({error}); delete its row, or compute the run anew"
            ) from error


def packed(images: Mapping[str, Tensor]) -> bytes:
    """A row's images as a file of safetensors, whatever their device and layout."""
    # A copy each: safetensors refuses images that share memory, as those of a purifier that
    # returns its input.
    own = {
        name: image.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, image in images.items()
    }
    return save(own)


def image_path(key: Key) -> Path:
    """Where a row's images are, relative to its folder and never outside of it."""
    attack, seed, image = key
    if not identity.LABEL.fullmatch(attack):
        raise InputError(f"attack label {attack!r} is no file name; use letters, digits, . _ + -")
    return Path("images", attack, f"{int(seed)}", f"{int(image)}.safetensors")


@dataclass
class Records(Generic[R]):
    """A record folder that is being written to; use as a context manager."""

    folder: Path
    kind: "Kind[R]"
    _declared: Plain
    _provenance: Plain | None
    _lock: FolderLock
    _journal: Journal
    _keys: set[Key]

    @classmethod
    def open(
        cls,
        kind: "Kind[R]",
        folder: str | os.PathLike[str],
        declared: Plain,
        provenance: Plain | None = None,
    ) -> Self:
        """Create a record folder, or resume one of the same declaration.

        Args:
            kind: of folder.
            folder: created if it is missing.
            declared: see `Evaluation.declared`. Attacks may be added to a folder; everything else
                must be as it was, unless there is no row yet.
            provenance: who computes the rows that will be added.

        Raises:
            InputError: if another process writes to the folder, if it holds records of other
                settings or of a later schema, or if one of its lines is damaged.
            RideError: if it cannot be written to.
        """
        folder = Path(folder)
        lock = FolderLock(folder, wait=False)
        try:
            content, path = _content(folder), folder / kind.declaration
            declared = json.loads(json.dumps(declared))
            declared = {"format": identity.SCHEMA, **declared, "provenance": []}
            if b"\n" in content:
                if not path.exists():
                    raise InputError(
                        f"{folder} has records without {path.name}; use another folder"
                    )
                declared = identity.agreed(identity.read_declaration(path), declared, folder)
            elif path.exists():
                identity.read_declaration(path)  # what is no run folder of ours is left alone
            rows, sound = _rows(folder, kind, content, declared["attacks"])
            write_atomically(path, _as_json(declared))
            journal = Journal(folder / "records.jsonl", sound)
        except BaseException:
            lock.release()
            raise
        return cls(folder, kind, declared, provenance, lock, journal, {row.key for row in rows})

    def label(self, threat: Plain) -> str:
        """The label of a declared attack in this folder.

        Raises:
            LookupError: for an attack that was not declared.
        """
        wanted = identity.key(threat)
        for name, own in self._declared["attacks"].items():
            if identity.key(own) == wanted:
                return str(name)
        raise LookupError(f"{self.folder} declares no {threat['name']}")

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def append(self, row: R, images: Mapping[str, Tensor]) -> None:
        """Keep a row and its images [C, H, W]; as `extend`."""
        self.extend([(row, images)])

    def extend(self, rows: Sequence[tuple[R, Mapping[str, Tensor]]]) -> None:
        """Keep rows and their images [C, H, W]; once this returns, a kill does not lose them.

        The images of all rows are on the disk before the first row is.

        Raises:
            InputError: where there is a row of that key.
            RideError: where they cannot be written; what was there stays sound.
        """
        keys = {row.key for row, _ in rows}
        if len(keys) < len(rows) or (taken := keys & self._keys):
            twice = min(taken) if len(keys) == len(rows) else "two of these rows"
            raise InputError(f"there is a row for {twice} already; each is written once")
        lines = b"".join(row.line() for row, _ in rows)
        write_together(
            (self.folder / image_path(row.key), packed(images)) for row, images in rows if images
        )
        if self._provenance is not None:  # with the first row that it is about
            self._declared["provenance"].append(self._provenance)
            write_atomically(self.folder / self.kind.declaration, _as_json(self._declared))
            self._provenance = None
        self._journal.append(lines)
        self._keys |= keys

    def close(self) -> None:
        self._journal.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Kind(Generic[R]):
    """A kind of record folder.

    Attributes:
        declaration: name of the file that declares what its records are.
        row: what a line of its records is.
        made_by: the command that makes such folders.
    """

    declaration: str
    row: type[R]
    made_by: str

    def open(
        self, folder: str | os.PathLike[str], declared: Plain, provenance: Plain | None = None
    ) -> Records[R]:
        """See `Records.open`."""
        return Records.open(self, folder, declared, provenance)

    def read(self, folder: str | os.PathLike[str]) -> RecordFolder[R]:
        """A record folder, which another process may be writing to; a torn last line is left out.

        Raises:
            InputError: where it is no folder of this kind and format, or a line is damaged.
        """
        folder = Path(folder)
        content = _content(folder)  # first: what is declared may grow, but only before its rows
        declared = identity.read_declaration(folder / self.declaration)
        return _folder(folder, declared, _rows(folder, self, content, declared["attacks"])[0])

    def find(self, folder: str | os.PathLike[str]) -> list[Path]:
        """The folders of this kind at or below a folder, sorted.

        Raises:
            InputError: where there are none.
        """
        found = sorted(path.parent for path in Path(folder).rglob(self.declaration))
        if not found:
            raise InputError(f"{folder} holds no runs of {self.made_by}; pass its output folder")
        return found


RUNS = Kind("run.json", Row, "evaluate")
"""Folders of evaluations."""

RunFolder: TypeAlias = RecordFolder[Row]
"""The folder of an evaluation."""

read = RUNS.read
"""Reads the run folder of an evaluation, see `RecordFolder`."""
find = RUNS.find
"""All run folders at or below a folder."""


def _as_json(declared: Plain) -> bytes:
    return json.dumps(declared, indent=1).encode()


def _content(folder: Path) -> bytes:
    path = folder / "records.jsonl"
    return path.read_bytes() if path.exists() else b""


def _rows(folder: Path, kind: "Kind[R]", content: bytes, attacks: Plain) -> tuple[list[R], int]:
    """All rows, and the length in bytes of the sound part of the file."""
    path = folder / "records.jsonl"
    lines = content.split(b"\n")
    torn = lines.pop()
    rows: list[R] = []
    seen: set[Key] = set()
    sound = 0
    for number, line in enumerate(lines, 1):
        try:
            row = kind.row.parse(line)
            if row.attack != CLEAN and row.attack not in attacks:
                raise ValueError(f"{kind.declaration} declares no attack {row.attack!r}")
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


def _folder(folder: Path, declared: Plain, rows: list[R]) -> RecordFolder[R]:
    order = {label: i for i, label in enumerate((CLEAN, *declared["attacks"]))}
    ordered = sorted(rows, key=lambda row: (order[row.attack], row.seed, row.image))
    return RecordFolder(
        folder,
        identity.read_settings(declared["settings"]),
        {label: identity.expanded(threat) for label, threat in declared["attacks"].items()},
        declared["versions"],
        tuple(ordered),
        tuple(declared["provenance"]),
    )
