"""Output that a kill, a full disk or a second process cannot damage.

Every file that ridefense writes goes through this module. On Linux and macOS a written file also
survives a power cut: the file and the name in its folder are synchronised to the disk.
"""

import errno
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ridefense.errors import InputError, RideError

if TYPE_CHECKING:
    from filelock import BaseFileLock

FilePath = str | os.PathLike[str]


def write_atomically(path: FilePath, content: bytes) -> None:
    """Write a file as a whole: after a kill or an error it is as it was before.

    The content is written to `<name>.partial` in the same folder, which then takes the file's
    name and its permissions. Missing folders are created; a symbolic link is followed.

    Raises:
        InputError: if the path is not UTF-8 or is no regular file.
        RideError: if the file cannot be written.
    """
    write_together([(path, content)])


def write_together(files: Iterable[tuple[FilePath, bytes]]) -> None:
    """Write several files, each as `write_atomically` does, and wait for the disk once for all.

    After a kill or an error some of them may be written and others not; each is whole.

    Raises:
        InputError, RideError: as `write_atomically`.
    """
    written: list[tuple[Path, Path, FilePath]] = []
    try:
        for path, content in files:
            target = Path(os.path.realpath(check_name(path)))
            if target.exists() and not target.is_file():
                raise InputError(f"{path} is not a regular file; choose another name")
            partial = target.with_name(f"{target.name}.partial")
            with writing(path):
                target.parent.mkdir(parents=True, exist_ok=True)
                written.append((partial, target, path))
                partial.write_bytes(content)
        for partial, _, path in written:  # the disk gets all of them before the first wait
            with writing(path):
                _synchronise_file(partial)
        for partial, target, path in written:
            with writing(path):
                with suppress(OSError):  # there is none yet, or the system has no permissions
                    shutil.copymode(target, partial)
                os.replace(partial, target)
        for folder, path in {target.parent: path for _, target, path in written}.items():
            with writing(path):
                _synchronise(folder)
    except BaseException:
        for partial, _, _ in written:
            with suppress(OSError):
                partial.unlink()
        raise


class Journal:
    """A file that only grows: an entry is either whole on the disk or, after a kill, cut short at
    the end of the file.

    Args:
        path: created if it is missing.
        sound: bytes to keep of what it holds; the rest is cut off.

    Raises:
        RideError: if the file cannot be written.
    """

    def __init__(self, path: FilePath, sound: int) -> None:
        self.path = Path(check_name(path))
        with writing(self.path):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._file = os.open(self.path, flags, 0o644)
            os.ftruncate(self._file, sound)
            os.fsync(self._file)
            _synchronise(self.path.parent)

    def append(self, entry: bytes) -> None:
        """Write an entry; once this returns, a kill does not lose it.

        Raises:
            RideError: if it cannot be written; the entries before it are unharmed.
        """
        with writing(self.path):
            end = os.fstat(self._file).st_size
            try:
                if os.write(self._file, entry) != len(entry):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, end)
                raise

    def close(self) -> None:
        os.close(self._file)


class FolderLock:
    """The lock of a folder, held by one process at a time; a context manager.

    The system releases it when the process that holds it ends, however it ends.

    Args:
        folder: created if it is missing; the lock is the file `lock` in it.
        wait: whether to wait until another process releases it.

    Raises:
        InputError: if the folder's name is not UTF-8, or another process holds the lock.
        RideError: if the folder cannot be written to.
    """

    def __init__(self, folder: FilePath, *, wait: bool) -> None:
        from filelock import FileLock, Timeout

        folder = Path(check_name(folder))
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock: BaseFileLock = FileLock(folder / "lock", thread_local=False)
            try:
                self._lock.acquire(timeout=-1 if wait else 0)
            except Timeout as error:
                raise InputError(
                    f"another process is writing to {folder}; wait for it or choose another folder"
                ) from error

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def check_name(path: FilePath) -> str:
    """The path as text.

    Raises:
        InputError: if it is not UTF-8: pages and records could not name it.
    """
    name = os.fspath(path)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the path {name!a} is not valid UTF-8; rename it") from error
    return name


@contextmanager
def writing(path: FilePath) -> Iterator[None]:
    """Turn an OSError into a RideError of one line that says what to do."""
    try:
        yield
    except OSError as error:
        raise RideError(
            f"cannot write to {path} ({error.strerror or error}); "
            "free some space or choose a writable folder, then start again"
        ) from error


def _synchronise_file(path: Path) -> None:
    with open(path, "r+b") as file:  # Windows synchronises only what may be written
        os.fsync(file.fileno())


def _synchronise(folder: Path) -> None:
    """Make the names in a folder last, on systems that can synchronise folders."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(descriptor)
