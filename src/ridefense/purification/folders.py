"""Purifying files: many at once, in parallel, resumed where a run was interrupted.

The output folder holds the results and `purified.csv`, a line for each. Its folder `.purified`
holds a journal, to which a row is appended once a result is on the disk, and a lock. A later run
leaves a file out if a row says that it was finished with the same settings, and neither it nor its
result has changed since.
"""

import hashlib
import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path

from ridefense import imagefiles, preset_files
from ridefense.describe import Plain
from ridefense.errors import CollapseError, CollapseWarning, InputError, unknown
from ridefense.evaluate.workers import Here, Outcome, Processes
from ridefense.files import FilePath, FolderLock, Journal, write_atomically
from ridefense.imageparts import split
from ridefense.long_fits import Fit
from ridefense.names import FORMATS, EngineName, NetworkName, OnCollapse
from ridefense.presets import PRESETS
from ridefense.purification.call import Purify
from ridefense.purification.encoding import encoded, written_format
from ridefense.purification.tasks import Task, check_inside, tasks_for
from ridefense.purification.tiles import TILE
from ridefense.results.frames import Tabular

HIDDEN = ".purified"
"""The folder of the journal and the lock."""

Progress = Callable[[float, int], None]
"""Called with the files done (a fraction within a file) and their number."""


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """How files are purified.

    Attributes:
        purifier, preset, seed, network, engine, tile, on_collapse: as of `purify`; a purifier by
            its name.
        max_side: images with a longer side are made smaller first, in pixels; None keeps the size.
        format: of the results, as "png"; None keeps that of each file.
    """

    purifier: str = "ride"
    preset: str | None = None
    seed: int = 0
    network: NetworkName | None = None
    engine: EngineName = "auto"
    tile: int = TILE
    on_collapse: OnCollapse = "keep"
    max_side: int | None = None
    format: str | None = None

    def __post_init__(self) -> None:
        if self.max_side is not None and (not isinstance(self.max_side, int) or self.max_side < 1):
            raise InputError(f"max_side is {self.max_side!r}; use a whole number of pixels from 1")
        if self.format is not None and self.format.lower() not in FORMATS:
            raise unknown("format", self.format, FORMATS)
        self.module()
        self.declared()

    def module(self) -> Purify:
        """The purification of one image.

        Raises:
            InputError: for settings that do not exist or do not go together.
        """
        return Purify(
            self.purifier,
            self.preset,
            self.seed,
            network=self.network,
            engine=self.engine,
            tile=self.tile,
            on_collapse=self.on_collapse,
            progress=False,
        )

    def declared(self) -> Plain:
        """Everything that decides the results, as JSON data; of a preset's file its content."""
        plain = asdict(self)
        if self.preset is not None and self.preset not in PRESETS:
            made_for, changes = preset_files.read(self.preset)
            plain["preset"] = json.loads(json.dumps([made_for, changes], default=str))
        return plain


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file.

    Attributes:
        name: of the result below the output folder.
        source: the file.
        error: why there is no result, in one line; "" where there is one.
        notes: what was done to the image besides, or could not be kept.
        height, width: of the result in pixels.
        tiles, collapsed, refits, engine, seconds: see `ImageOutcome`.
        resumed: whether an earlier run had finished it.
    """

    name: str
    source: str
    error: str = ""
    notes: tuple[str, ...] = ()
    height: int = 0
    width: int = 0
    tiles: int = 0
    collapsed: int = 0
    refits: int = 0
    engine: str = ""
    seconds: float = 0.0
    resumed: bool = False


@dataclass(frozen=True)
class FilesOutcome(Tabular):
    """What became of all files.

    Attributes:
        files: by name.
        left_out: the files of folders that are no images, counted by their suffixes.
    """

    files: Sequence[FileOutcome]
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> list[FileOutcome]:
        """The files without a result."""
        return [file for file in self.files if file.error]

    @property
    def collapsed(self) -> list[FileOutcome]:
        """The files that lost contrast or colours, whatever `on_collapse` made of them."""
        return [file for file in self.files if file.collapsed]

    @property
    def noted(self) -> dict[str, list[str]]:
        """The names of the files by the notes on them."""
        found: dict[str, list[str]] = {}
        for file in self.files:
            for note in file.notes:
                found.setdefault(note, []).append(file.name)
        return found

    def records(self) -> list[Plain]:
        """A flat record for each file."""
        return [asdict(file) | {"notes": "; ".join(file.notes)} for file in self.files]


@dataclass(frozen=True)
class FileWork:
    """The purification of files, for `evaluate.workers`."""

    settings: FileSettings

    @property
    def device(self) -> str:
        return "cpu"

    def declared(self) -> Plain:
        return self.settings.declared()

    def compute(
        self, chunk: Task, progress: Callable[[float], None] | None = None
    ) -> list[Outcome[FileOutcome]]:
        return [(purify_file(chunk, self.settings, progress), {})]


def purify_file(
    task: Task, settings: FileSettings, progress: Callable[[float], None] | None = None
) -> FileOutcome:
    """Purify one file into another, which is written as a whole or not at all.

    The result has the file's format, unless the settings or its suffix say another, and keeps
    transparency and metadata as far as that format does; what is lost is noted. An image that
    cannot be used is an outcome with an error.

    Args:
        progress: told the fraction that is done.

    Raises:
        RideError: if the result cannot be written.
    """
    name = str(task.source)

    def told(done: int, total: int) -> None:
        if progress is not None:
            progress(done / total)

    try:
        decoded = imagefiles.decoded(task.source, name)
        wanted = FORMATS[settings.format.lower()] if settings.format else decoded.format
        format = written_format(wanted)
        notes = []
        if decoded.frames > 1:
            notes.append(f"the first of {decoded.frames} frames")
        parts = split(decoded.image, name).within(settings.max_side)
        notes += parts.notes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)  # the outcome has it
            found = _module(settings).outcome(parts.pixels, progress=told)
        content, lost = encoded(parts.joined(found.value), format)
    except CollapseError as error:
        return FileOutcome(task.name, name, error=str(error), collapsed=1)
    except InputError as error:
        return FileOutcome(task.name, name, error=str(error))
    write_atomically(task.target, content)
    (image,) = found.images
    return FileOutcome(
        task.name,
        name,
        notes=(*notes, *lost),
        height=image.height,
        width=image.width,
        tiles=image.tiles,
        collapsed=image.collapsed,
        refits=image.refits,
        engine=image.engine,
        seconds=round(image.seconds, 3),
    )


@lru_cache(maxsize=1)
def _module(settings: FileSettings) -> Purify:
    """One for all files: a purifier of the user's may have to load its weights."""
    return settings.module()


def purify_files(
    sources: Sequence[FilePath],
    out: FilePath,
    settings: FileSettings,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> FilesOutcome:
    """Purify files into a folder, or go on where an earlier run was interrupted.

    A result depends on the file and the settings alone: not on the other files or on the workers.

    Args:
        sources: files, folders and patterns, see `tasks_for`.
        out: the folder of the results; names and structure below the sources are kept.
        settings: how.
        workers: processes that share the files and the processor's threads.
        progress: called with the files done and their number.

    Raises:
        InputError: for sources and settings that cannot be used, and while another process
            purifies into the folder.
        RideError: if the folder cannot be written to.
    """
    tasks, left_out = planned(sources, out, settings)
    return replace(run_tasks(tasks, out, settings, workers, progress), left_out=left_out)


def planned(
    sources: Sequence[FilePath], out: FilePath, settings: FileSettings
) -> tuple[list[Task], Counter[str]]:
    """What `purify_files` does, and what it leaves out; nothing is written.

    Raises:
        InputError: for sources that cannot be used, and an output folder that is a file.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is no folder; choose another output folder")
    return tasks_for(sources, out, settings.format and f".{settings.format.lower()}")


def fits_of(tasks: Sequence[Task], settings: FileSettings) -> list[Fit]:
    """The fits that these files take, by the headers of their images; none of a fixed purifier."""
    module, found = settings.module(), list[Fit]()
    for task in tasks:
        with suppress(InputError):  # it is told when the file's turn comes
            header = imagefiles.header(task.source, str(task.source))
            width, height = header.size
            scale = min(1.0, (settings.max_side or math.inf) / max(1, width, height))
            size = max(1, round(height * scale)), max(1, round(width * scale))
            found += module.fits((1 if header.grey else 3, *size))
    return found


def run_tasks(
    tasks: Sequence[Task],
    out: FilePath,
    settings: FileSettings,
    workers: int = 1,
    progress: Progress | None = None,
) -> FilesOutcome:
    """Purify the files of tasks, see `purify_files`."""
    out = Path(out)
    with FolderLock(out / HIDDEN, wait=False):
        journal = _Journal(out, settings.declared())
        found = {task.name: done for task in tasks if (done := journal.finished(task))}
        todo = [task for task in tasks if task.name not in found]

        def moved(task: Task, fraction: float) -> None:
            if progress is not None:
                progress(len(found) + fraction, len(tasks))

        pool = Here() if workers == 1 else Processes(workers)
        for task, rows in pool.map(FileWork(settings), todo, moved):
            ((outcome, _),) = rows
            found[task.name] = outcome
            journal.add(task, outcome)
            moved(task, 0.0)
        every = journal.close() | found
        table = FilesOutcome([every[name] for name in sorted(every)])
        write_atomically(out / "purified.csv", table.to_csv().encode())
    return FilesOutcome([found[task.name] for task in tasks])


class _Journal:
    """The rows of finished files in an output folder."""

    def __init__(self, out: Path, declared: Plain) -> None:
        self._declared, self._inside = declared, Path(os.path.realpath(out))
        path = out / HIDDEN / "journal.jsonl"
        content = path.read_bytes() if path.exists() else b""
        sound = content.rfind(b"\n") + 1
        self._rows: dict[str, Plain] = {}
        for line in content[:sound].splitlines():
            row = _row(line)
            if row is not None:
                self._rows[row["name"]] = row
        self._journal = Journal(path, sound)

    def finished(self, task: Task) -> FileOutcome | None:
        """What became of a file, if it was finished with these settings and is still there."""
        check_inside(task, self._inside)
        row = self._rows.get(task.name)
        if row is None or row["settings"] != self._declared:
            return None
        if _digest(task.source) != row["source"] or _digest(task.target) != row["result"]:
            return None
        return replace(_outcome(row), source=str(task.source), resumed=True)

    def add(self, task: Task, outcome: FileOutcome) -> None:
        """Note that a file is finished; one without a result is tried again the next time."""
        if outcome.error:
            return
        row = {
            "name": task.name,
            "settings": self._declared,
            "source": _digest(task.source),
            "result": _digest(task.target),
            "outcome": asdict(outcome),
        }
        self._journal.append(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    def close(self) -> dict[str, FileOutcome]:
        """Close the journal; the outcomes of earlier runs by name."""
        self._journal.close()
        return {name: _outcome(row) for name, row in self._rows.items()}


def _outcome(row: Plain) -> FileOutcome:
    """The outcome in a row of the journal.

    Raises:
        TypeError, KeyError: for a damaged one.
    """
    told = row["outcome"] | {"notes": tuple(row["outcome"]["notes"])}
    found = FileOutcome(**{f.name: told[f.name] for f in fields(FileOutcome)})
    blank = asdict(FileOutcome("", ""))
    for name, value in asdict(found).items():
        if type(value) is not type(blank[name]):
            raise TypeError(name)
    if not all(isinstance(note, str) for note in found.notes):
        raise TypeError("notes")
    return found


def _row(line: bytes) -> Plain | None:
    """A row of the journal; None for a damaged one, whose file is purified again."""
    try:
        row: Plain = json.loads(line)
        wanted = {"name", "settings", "source", "result", "outcome"}
        return row if wanted <= row.keys() and _outcome(row).name == row["name"] else None
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return None


def _digest(path: Path) -> str:
    """SHA-256 of a file's content; "" where there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
