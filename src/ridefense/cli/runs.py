"""Several purifiers, computed one after another, each into a folder of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ridefense.cli.console import bar, say

if TYPE_CHECKING:
    from ridefense.evaluate import Evaluation, RunFolder, Workers
    from ridefense.evaluate.declaration import Declaration
    from ridefense.evaluate.lines import Line
    from ridefense.evaluate.records import RecordFolder
    from ridefense.evaluate.running import Progress

D = TypeVar("D", bound="Declaration")
R = TypeVar("R", bound="Line")


def each(
    declared: Mapping[str, D],
    folder: Path,
    unit: str,
    compute: "Callable[[D, Path, Progress], RecordFolder[R]]",
) -> "list[RecordFolder[R]]":
    """Compute declarations on the same images, with a bar, and say what was done.

    Args:
        declared: by the name of their folders.
        folder: which holds those.
        unit: of what a bar counts, as "rows".
        compute: one of them into its folder.
    """
    untold, found = _untold(declared), []
    for number, (name, declaration) in enumerate(declared.items(), 1):
        title = f"{name} ({number} of {len(declared)})"
        with bar(unit) as move:

            def progress(doing: str, done: float, total: float, title: str = title) -> None:
                while untold and done:
                    say(untold.pop())
                move(f"{title}: {doing}", done, total)

            found.append(compute(declaration, folder / name, progress))
        say(f"{title}: {len(found[-1].rows)} {unit} in {folder / name}")
    return found


def together(
    declared: "Mapping[str, Evaluation]", folder: Path, workers: "Workers"
) -> "list[RunFolder]":
    """Evaluate declarations on the same images as one piece of work, and say what was done.

    Args:
        declared: by the name of their folders.
        folder: which holds those.
        workers: who compute.
    """
    from ridefense.evaluate import read, run_together

    untold = _untold(declared)
    with bar("rows") as move:

        def progress(doing: str, done: float, total: float) -> None:
            while untold and done:
                say(untold.pop())
            move(doing, done, total)

        run_together({folder / name: one for name, one in declared.items()}, progress, workers)
    found = [read(folder / name) for name in declared]
    for run in found:
        say(f"{run.folder.name}: {len(run.rows)} rows in {run.folder}")
    return found


def _untold(declared: "Mapping[str, Declaration]") -> list[str]:
    """What is said of the images, but only once something is done: all may be refused."""
    shown, _ = next(iter(declared.values())).load()
    return [f"{shown.title}: {shown.preparation}"]
