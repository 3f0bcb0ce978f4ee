"""Looking for processes, by /proc."""

import time
from pathlib import Path


def children(process: int, command: bytes = b"") -> list[int]:
    """What a process has begun, and what that has begun, where the command line holds this."""
    found, todo = [], [process]
    while todo:
        for path in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            listed = [int(number) for number in path.read_text().split()]
            todo += listed
            found += [p for p in listed if command in _command(p)]
    return found


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def alive(process: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(true, seconds: float = 120) -> None:
    """Wait until it is true; machines that do much else are slow."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)
