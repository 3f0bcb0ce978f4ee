"""Several purifiers, computed one after another, each into a folder of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ridefense.cli.console import bar, say

if TYPE_CHECKING:
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
    shown, _ = next(iter(declared.values())).load()
    untold = [f"{shown.title}: {shown.preparation}"]  # until something is done: all may be refused
    found = []
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
