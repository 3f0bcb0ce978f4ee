"""The command line. `main` is the command `ridefense`; PyTorch is imported by what needs it."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command that `sys.argv` names, and exit with its code (see `running.run`)."""
    try:
        from ridefense.cli.running import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while `running` was imported, or twice
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)
