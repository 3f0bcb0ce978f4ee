"""The command line."""

import sys
import warnings

import typer
from typer.main import get_command

from ridefense import RideError
from ridefense.cli.audit import audit
from ridefense.cli.console import say
from ridefense.cli.evaluate import evaluate
from ridefense.cli.listing import listing
from ridefense.cli.purify import purify
from ridefense.cli.report import report
from ridefense.cli.reproduce import reproduce
from ridefense.cli.train import train_classifier
from ridefense.cli.tune import tune

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Purify images with RIDE, and measure what that is worth against an attacker.",
    epilog="Exit codes: 0 done; 2 bad input or an unwritable folder, told in one line; "
    "3 evaluated or audited, but some rows or sanity checks failed; 130 interrupted.",
)
app.command()(purify)
app.command()(evaluate)
app.command()(tune)
app.command()(audit)
app.command()(reproduce)
app.command()(report)
app.command()(train_classifier)
app.command("list")(listing)


def main() -> None:
    """The command `ridefense`: every error of use is one line on stderr."""
    warnings.showwarning = lambda message, *_: say(f"warning: {message}")
    try:
        words = sys.argv[1:] or ["--help"]
        code = app(words, prog_name="ridefense", standalone_mode=False) or 0
    except typer.TyperException as error:
        say(f"error: {_usage(error)}")
        code = error.exit_code
    except RideError as error:
        say(f"error: {_one_line(str(error))}")
        code = 2
    if code == INTERRUPTED:
        say("interrupted; what is finished is kept: run the same command again to go on")
    sys.exit(code)


def _usage(error: typer.TyperException) -> str:
    """What was wrong with the words of a command, and whose help tells which are right."""
    known = get_command(app).commands  # the error itself does not always tell its command
    command = " ".join(["ridefense", *(word for word in sys.argv[1:2] if word in known)])
    # The prefix is pydantic's, by which typer reads options.
    told = _one_line(error.format_message()).replace("Value error, ", "", 1).rstrip(".")
    found = getattr(error.__cause__, "errors", list)()  # pydantic's, which know what was given
    given = repr(found[0]["input"]) if found else ""
    told += f", not {given}" if given not in told else ""
    return f"{told}. See {command} --help."


def _one_line(text: str) -> str:
    return " ".join(text.split())
