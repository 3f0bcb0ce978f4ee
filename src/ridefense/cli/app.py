"""The commands and what their group says of itself. Nothing here imports PyTorch."""

from typing import Annotated, cast

import typer
import typer.core
from typer.main import get_command

from ridefense.cli import console, options
from ridefense.cli.audit import audit
from ridefense.cli.board import board
from ridefense.cli.certify import certify
from ridefense.cli.evaluate import evaluate
from ridefense.cli.listing import listing
from ridefense.cli.play import play
from ridefense.cli.purify import purify
from ridefense.cli.report import report
from ridefense.cli.reproduce import reproduce
from ridefense.cli.serve import serve
from ridefense.cli.train import train_classifier
from ridefense.cli.tune import tune


def _version(wanted: bool) -> None:
    if wanted:
        from ridefense import __version__

        console.show(f"ridefense {__version__}")
        raise typer.Exit


app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 the reader of the output closed it; 2 an error, told in one "
    "line; 3 evaluated or audited, but rows or sanity checks failed; 4 purified, but images "
    "lost their contrast or colours; 130 interrupted.",
)


@app.callback()
def group(
    version: Annotated[
        bool,
        typer.Option("--version", help="print the version", callback=_version, is_eager=True),
    ] = False,
    debug: options.Debug = False,
) -> None:
    """Purify images with RIDE, and measure how robust a purifier makes a classifier."""


app.command()(purify)
app.command()(evaluate)
app.command()(tune)
app.command()(audit)
app.command()(board)
app.command()(certify)
app.command()(reproduce)
app.command()(report)
app.command()(serve)
app.command("app")(play)
app.command()(train_classifier)
app.command("list")(listing)


def commands() -> list[str]:
    """Their names."""
    return list(cast(typer.core.TyperGroup, get_command(app)).commands)
