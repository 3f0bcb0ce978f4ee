"""ridefense audit --calibrate"""

from collections.abc import Sequence
from pathlib import Path

import typer

from ridefense.cli import machine
from ridefense.cli.console import bar, say, show_page
from ridefense.errors import InputError
from ridefense.names import BudgetName

NOT_FOUND_OUT = 3
"""Exit code of a calibration in which the audit does not report the truth of some sample."""


def calibrate(
    *,
    eps: Sequence[float],
    budget: BudgetName,
    images: int,
    names: Sequence[str],
    autoattacked: int,
    workers: int | None,
    ray: str | None,
    folder: Path,
) -> None:
    """Audit the samples of the calibration and show what is reported beside the truth.

    Raises:
        InputError: for more than one radius, unknown names, or a folder of another calibration.
    """
    if len(eps) > 1:
        told = ", ".join(f"{radius:g}" for radius in eps)
        raise InputError(f"eps is {told}; a calibration has one radius")
    from ridefense.audit import BUDGETS
    from ridefense.calibration import Calibration, carry_out, chosen, write

    declared = Calibration(
        eps=eps[0],
        budget=BUDGETS[budget],
        budget_name=budget,
        images=images,
        samples=chosen(names),
        autoattacked=min(autoattacked, images),
    )
    with bar("rows") as move:
        carry_out(declared, folder, move, machine.workers(workers, ray, "cpu"))
    document, found = write(folder)
    for name in ("calibration.html", "calibration.md"):
        say(f"wrote {folder / name}")
    show_page(document)
    if not all(one.holds for one in found):
        raise typer.Exit(NOT_FOUND_OUT)
