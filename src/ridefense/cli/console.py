"""How commands speak: results on stdout, all else on stderr."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

PAUSE = 10.0
"""Seconds from one line about progress to the next, where there is no terminal for a bar."""


class Move(Protocol):
    """Moves a bar."""

    def __call__(self, doing: str, done: float, total: float, detail: str = "") -> None:
        """What is being done, how much of how much is, and what changes all the time."""


def say(text: str) -> None:
    """A line for the reader, which no program waits for."""
    err.print(text, markup=False, soft_wrap=True)


@contextmanager
def bar(unit: str) -> Iterator[Move]:
    """A progress bar; without a terminal a line now and then. Yields what moves it."""
    if not err.is_terminal:
        yield _lines(unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=err, transient=True)
    task = progress.add_task("")

    def move(doing: str, done: float, total: float, detail: str = "") -> None:
        progress.start()  # only now: what is refused before it begins shows no bar
        description = f"{doing}, {detail}" if detail else doing
        progress.update(task, description=description, completed=done, total=total)

    try:
        yield move
    finally:
        progress.stop()


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
