"""ridefense report"""

from pathlib import Path
from typing import Annotated

import typer

from ridefense.audit import Page
from ridefense.audit import write as write_audit
from ridefense.cli.console import out, say
from ridefense.experiments import EXPERIMENTS, planned, write, write_index
from ridefense.files import write_atomically
from ridefense.report import as_html, as_markdown, as_table
from ridefense.report.tables import notes
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
    """The table on stdout; the pages as files in the folder."""
    out.print(as_table(results), soft_wrap=False)
    for note in notes(results):
        out.print(f"· {note}", markup=False)
    for name, text in (("report.html", as_html(results)), ("report.md", as_markdown(results))):
        write_atomically(folder / name, text.encode())
        say(f"wrote {folder / name}")


def show_audit(folder: Path) -> Page:
    """The verdict and the checks on stdout; the page as files in the folder."""
    page = write_audit(folder)
    for line in page.headline:
        out.print(line, markup=False)
    for check in page.checks:
        out.print(f"{check.outcome}: {check.name}. {check.sentence}", markup=False)
    for name in ("audit.html", "audit.md"):
        say(f"wrote {folder / name}")
    return page
