from .entries import About, Entry, read_entries
from .page import compose, summary, write
from .published import BOARD, Planned, carry_out_all
from .verification import Verification, verify

__all__ = [
    "BOARD",
    "About",
    "Entry",
    "Planned",
    "Verification",
    "carry_out_all",
    "compose",
    "read_entries",
    "summary",
    "verify",
    "write",
]
