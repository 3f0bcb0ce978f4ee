"""ridefense report"""

from pathlib import Path
from typing import Annotated

import typer

from ridefense.audit import AuditResult
from ridefense.audit import write as write_audit
from ridefense.cli.console import out, say
from ridefense.experiments import EXPERIMENTS, planned, write, write_index
from ridefense.pages import as_terminal
from ridefense.report import summary
from ridefense.report import write as write_report
from ridefense.results import Results, read_results


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="what evaluate, reproduce or audit took as --out")
    ],
    as_data: Annotated[
        bool, typer.Option("--json", help="print JSON alone: the same records, the same bytes")
    ] = False,
) -> None:
    """Show records as a table, and write report.html and report.md beside them.

    Of a folder of reproduce, the page of every table and figure in it; of audit, its page.

    \b
    Examples:
      ridefense report runs/demo
      ridefense report runs/demo --json > demo.json
    """
    found = [e for e in EXPERIMENTS.values() if planned(e, folder)]
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
        typer.echo(results.to_json(), nl=False)
        return
    show(results, folder)


def show(results: Results, folder: Path) -> None:
    """The table and its notes on stdout; the pages as files in the folder."""
    text = as_terminal(summary(results), out.width, colour=out.is_terminal)
    typer.echo(text, nl=False)
    for path in write_report(results, folder):
        say(f"wrote {path}")


def show_audit(folder: Path) -> AuditResult:
    """The verdict and the checks on stdout; the pages as files in the folder."""
    result = write_audit(folder)
    for line in result.headline:
        out.print(line, markup=False)
    for check in result.checks:
        out.print(f"{check.outcome}: {check.name}. {check.sentence}", markup=False)
    for name in ("audit.html", "audit.md"):
        say(f"wrote {folder / name}")
    return result
