"""How commands speak: results on stdout, all else on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


def say(text: str) -> None:
    """A line for the reader, which no program waits for."""
    err.print(text, markup=False, soft_wrap=True)


@contextmanager
def bar(unit: str) -> Iterator[Callable[[str, float, float], None]]:
    """A progress bar; yields what moves it: (what is being done, done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    task = progress.add_task("")

    def move(doing: str, done: float, total: float) -> None:
        progress.start()  # only now: what is refused before it begins shows no bar
        progress.update(task, description=doing, completed=done, total=total)

    try:
        yield move
    finally:
        progress.stop()
