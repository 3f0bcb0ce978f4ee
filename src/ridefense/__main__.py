"""`python -m ridefense` is the command `ridefense`."""

from ridefense.cli import main

main()
