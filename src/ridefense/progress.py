"""A progress bar on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Move(Protocol):
    """Moves a bar."""

    def __call__(self, doing: str, done: float, total: float, detail: str = "") -> None:
        """What is being done, how much of how much is, and what changes all the time."""


@contextmanager
def terminal_bar(unit: str) -> Iterator[Move]:
    """A progress bar on standard error, which is a terminal. Yields what moves it.

    The bar is shown from the first move on, and removed at the end.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True, highlight=False, emoji=False)
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task("")

    def move(doing: str, done: float, total: float, detail: str = "") -> None:
        progress.start()  # only now: what is refused before it begins shows no bar
        description = f"{doing}, {detail}" if detail else doing
        progress.update(task, description=description, completed=done, total=total)

    try:
        yield move
    finally:
        progress.stop()
