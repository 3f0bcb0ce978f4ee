"""From the words of a command to its exit code; every error is one line on standard error."""

import os
import signal
import sys
import threading
import traceback
import warnings
from types import FrameType

import typer

from ridefense import usercode
from ridefense.cli import console, options
from ridefense.cli.console import ReaderGone, one_line, say
from ridefense.errors import RideError, UserCodeError

FAILED = 2
"""Exit code of a command that ended in an error."""

READER_GONE = 1
"""Exit code if the reader of standard output has closed it."""

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

_INTERRUPTED = "interrupted; finished results are kept, and the same command resumes"


def run(words: list[str]) -> int:
    """Run a command; its exit code."""
    console.prepare()
    warnings.showwarning = lambda message, *_: say(f"warning: {message}")
    # A notebook's back end is inherited by the commands that it starts, and may not be installed.
    os.environ["MPLBACKEND"] = "agg"
    options.debugging = False
    _stop_imports_cleanly()
    try:
        _check_encoding(words)
        from ridefense.cli.app import app

        with console.writing(by=typer):
            code = int(app(words or ["--help"], prog_name="ridefense", standalone_mode=False) or 0)
        console.finish()
    except ReaderGone:
        return READER_GONE
    except SystemExit as stopped:  # typer's, if the reader of a help text is gone
        return stopped.code if isinstance(stopped.code, int) else FAILED
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        _tell(error, words)
        return FAILED
    if code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to interrupt
        say(_INTERRUPTED)
    return code


def _stop_imports_cleanly() -> None:
    """Let Ctrl-C end the process while a module is imported.

    An exception would not: compiled modules turn it into another, or go on without what they were
    importing. Files are written so that an end at any time does no harm.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                say(_INTERRUPTED)
                os._exit(INTERRUPTED)
            frame = frame.f_back
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)


def _check_encoding(words: list[str]) -> None:
    """Refuse names that no record or page could hold, before any work.

    Raises:
        RideError: for a word that is not text in the locale's encoding.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise RideError(
                f"{word!a} is not text in the encoding {sys.getfilesystemencoding()}; rename it"
            ) from None


def _tell(error: Exception, words: list[str]) -> None:
    """Say the error in one line, after its traceback if --debug asks for that."""
    if options.debugging:
        traceback.print_exception(error)
    hint = "" if options.debugging else "; --debug shows the traceback"
    if isinstance(error, typer.TyperException):
        text = _usage(error, words)
    elif isinstance(error, UserCodeError):
        text = f"{error}{hint}"
    elif isinstance(error, RideError):
        text = str(error)
    elif _is_about_memory(error):
        text = f"out of memory ({_first_line(error)}); use smaller or fewer images{hint}"
    else:
        text = usercode.explained(error) + hint
    say(f"error: {text}")


def _is_about_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from ridefense.memory import is_exhausted

    return is_exhausted(error)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _usage(error: typer.TyperException, words: list[str]) -> str:
    """What was wrong with the words of a command, and whose help tells which are right."""
    from ridefense.cli.app import commands

    # Not every error of typer knows its command.
    command = next((word for word in words if word in commands()), "")
    told = one_line(error.format_message()).rstrip(".")
    if similar := getattr(error, "possibilities", None):  # of an unknown option
        told = f"{told.partition(' (')[0]}; did you mean {similar[0]}?"
    elif ": Value error, " in told:  # what a parser of `options` raised; it names the value
        told = told.replace("Value error, ", "")
    else:
        # pydantic, by which typer reads numbers, does not say what was given.
        found: list[dict[str, object]] = getattr(error.__cause__, "errors", list)()
        told += f", not {found[0]['input']!r}" if found else ""
    end = "" if told.endswith("?") else "."
    return f"{told}{end} See {' '.join(filter(None, ['ridefense', command, '--help']))}."
