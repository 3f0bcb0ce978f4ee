"""ridefense report"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ridefense.cli import options
from ridefense.cli.console import say, show, show_page

if TYPE_CHECKING:
    from ridefense.audit import AuditResult
    from ridefense.results import Results


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="what evaluate, reproduce or audit took as --out")
    ],
    as_data: Annotated[
        bool, typer.Option("--json", help="print JSON alone: the same records, the same bytes")
    ] = False,
    debug: options.Debug = False,
) -> None:
    """Show records and write their pages.

    The pages are report.html and report.md in the folder; for a folder of reproduce the page of
    every table and figure in it, for one of audit its page.

    \b
    Examples:
      ridefense report runs/demo
      ridefense report runs/demo --json > demo.json
    """
    from ridefense.experiments import EXPERIMENTS, planned, write, write_index
    from ridefense.results import read_results

    named = [name for name in EXPERIMENTS if (folder / name).is_dir()]
    found = [e for e in map(EXPERIMENTS.__getitem__, named) if planned(e, folder)]
    if found and not as_data:
        for experiment in found:
            write(experiment, folder)
            say(f"wrote {folder / experiment.name / 'report.html'}")
        write_index(folder, found)
        say(f"wrote {folder / 'report.html'}")
        return
    if (folder / "audit.json").exists() and not as_data:
        show_audit(folder)
        return
    results = read_results(folder)
    if as_data:
        show(results.to_json().rstrip("\n"))
    else:
        show_results(results, folder)


def show_results(results: "Results", folder: Path) -> None:
    """Write the pages into the folder, then show the table and its notes."""
    from ridefense.report import summary, write

    for path in write(results, folder):
        say(f"wrote {path}")
    show_page(summary(results))


def show_audit(folder: Path) -> "AuditResult":
    """Write the pages into the folder, then show the verdict and the checks."""
    from ridefense.audit import write

    result = write(folder)
    for name in ("audit.html", "audit.md"):
        say(f"wrote {folder / name}")
    for line in result.headline:
        show(line)
    for check in result.checks:
        show(f"{check.outcome}: {check.name}. {check.sentence}")
    return result
