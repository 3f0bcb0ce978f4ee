"""How commands speak: results on standard output, all else on standard error."""

import io
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ridefense.errors import RideError
from ridefense.progress import Move, terminal_bar

if TYPE_CHECKING:
    from ridefense.pages import Document

PAUSE = 10.0
"""Seconds from one line about progress to the next, where there is no terminal for a bar."""


class ReaderGone(Exception):
    """The reader of standard output has closed it, as `head` does."""


def prepare() -> None:
    """Let both streams take any text, whatever the locale: what they cannot show becomes "?"."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the command
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (for the process's life)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(text: str) -> None:
    """A line for the reader. It is lost if standard error cannot be written."""
    with suppress(OSError):
        print(one_line(text), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Text on standard output, with an end of line; errors as of `writing`."""
    with writing():
        print(text, flush=True)


def show_page(page: "Document") -> None:
    """A document's texts and tables on standard output; errors as of `writing`."""
    from ridefense.pages import as_terminal

    with writing():
        print(as_terminal(page, colour=sys.stdout.isatty()), end="", flush=True)


def finish() -> None:
    """Write what standard output still holds; errors as of `writing`."""
    with writing():
        sys.stdout.flush()


def duration(seconds: float) -> str:
    """As "40 seconds", "12 minutes", "2.5 hours"."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def one_line(text: str) -> str:
    """The text in one line, without characters that control a terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


@contextmanager
def bar(unit: str) -> Iterator[Move]:
    """A progress bar; without a terminal a line now and then. Yields what moves it."""
    if not sys.stderr.isatty():
        yield _lines(unit)
        return
    with terminal_bar(unit) as move:
        yield move


def _lines(unit: str) -> Move:
    """Says what is being done where that has changed; what is done within `PAUSE` says nothing."""
    said, at = "", time.monotonic()

    def move(doing: str, done: float, total: float, detail: str = "") -> None:
        nonlocal said, at
        if doing == said or time.monotonic() < at + PAUSE:
            return
        say(f"{doing}: {done:.0f} of {total:.0f} {unit}" + (f", {detail}" if detail else ""))
        said, at = doing, time.monotonic()

    return move


@contextmanager
def writing(by: ModuleType | None = None) -> Iterator[None]:
    """Tell errors of standard output from all others, and keep Python from flushing it again.

    Args:
        by: a package; only errors that it raises itself are those of standard output.

    Raises:
        ReaderGone: if the reader has closed it.
        RideError: if it cannot be written.
    """
    try:
        yield
    except OSError as error:
        if by is not None and not _raised_in(by, error):
            raise
        with suppress(OSError, ValueError):  # a stream of a test has no number
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
        if isinstance(error, BrokenPipeError):
            raise ReaderGone from error
        raise RideError(f"cannot write to standard output ({error.strerror})") from error


def _raised_in(package: ModuleType, error: OSError) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(*package.__path__)
