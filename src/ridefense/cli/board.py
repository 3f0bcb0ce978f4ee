"""ridefense board"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ridefense import purifiers
from ridefense.cli import machine, options
from ridefense.cli.console import bar, say, show, show_page
from ridefense.cli.evaluate import UNCHECKED
from ridefense.errors import InputError, unknown

if TYPE_CHECKING:
    from ridefense.board import Planned


def board(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR]...", help="what audit took as --out")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="verify the records instead, and write nothing")
    ] = False,
    run: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="an audit of the published board, or all; may be repeated"
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="where recorded images are; may be repeated"),
    ] = None,
    classifier: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="where a recorded classifier is; may be repeated"),
    ] = None,
    purifier: Annotated[
        str | None,
        options.purifier("with --check: the audited defence, where it is none of list"),
    ] = None,
    device: options.Device = None,
    workers: options.WorkerCount = None,
    folder: Annotated[Path, typer.Option("--out", help="folder of the page")] = Path("runs/board"),
    debug: options.Debug = False,
) -> None:
    """Put many audits on one page, or verify the records of one.

    The page has a row for each defence and radius: clean and robust accuracy, the gain over the
    same classifier without the defence, sanity checks, and cost. It is written as HTML, Markdown,
    JSON and CSV. Where audits share a defence, the one with more finished attacks counts.

    With --check, images must lie in their ball around the data set's, labels and hashes must be
    right, and the classifier is run again. Exit code 3: something does not hold.

    With --run, the audits of the published board are run, or resumed, in the folder of the page.

    \b
    Examples:
      ridefense board runs/audit runs/other-audit --out runs/board
      ridefense board --check runs/audit
      ridefense board --check received --purifier lab:Denoiser --dataset faces=data/faces
      ridefense board --run mnist --run mnist-fast --out runs/board
    """
    images, networks = options.pairs("dataset", dataset), options.pairs("classifier", classifier)
    if bool(folders) == bool(run):
        raise InputError("name folders of audits, or audits of the board with --run")
    if check:
        _check(folders or [], images, networks, purifier)
        return
    from ridefense.board import carry_out_all, summary, write

    if run:
        chosen = _chosen(run)
        with bar("rows") as move:
            computed = machine.workers(workers, None, machine.device(device))
            carry_out_all(chosen, folder, images, move, computed)
    entries = write(folders or [folder], folder)
    for suffix in ("html", "md", "json"):
        say(f"wrote {folder / 'board'}.{suffix}")
    show_page(summary(entries))


def _chosen(names: list[str]) -> "dict[str, Planned]":
    """Audits of the published board by name.

    Raises:
        InputError: for an unknown name.
    """
    from ridefense.board import BOARD

    for name in names:
        if name not in ("all", *BOARD):
            raise unknown("audit of the board", name, [*BOARD, "all"])
    return {name: one for name, one in BOARD.items() if name in names or "all" in names}


def _check(
    folders: list[Path], datasets: dict[str, str], classifiers: dict[str, str], name: str | None
) -> None:
    from ridefense.board import verify

    defence = None if name is None else purifiers.load(name)
    failed = False
    for folder in folders:
        found = verify(folder, datasets=datasets, classifiers=classifiers, purifier=defence)
        for line in found.lines:
            show(line)
        failed |= bool(found.faults)
    if failed:
        raise typer.Exit(UNCHECKED)
