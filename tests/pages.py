"""The documentation's pages as tests see them: code blocks that run, commands that are understood.

A Python block that no test can run says so where its reader sees it, in its title, with the reason:
```python title="Not run by the tests: it needs a GPU"
"""

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from unittest.mock import patch

import pytest

from ridefense.cli import main

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXCUSE = re.compile(r'title="Not run by the tests: (.+)"')
_SHELLS = ("", "sh", "bash")
_WRITES = re.compile(r'^(?:\w+ = )?(?:run|carry_out)\(\w+, "([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        language: as the fence names it; "" where it names none.
        excuse: why the tests do not run it; "" where they do.
        line: of the page, that its code begins on.
    """

    language: str
    excuse: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text, found = page.read_text(), []
    for fence in _FENCE.finditer(text):
        language, rest, code = fence.groups()
        excuse = _EXCUSE.search(rest)
        line = text.count("\n", 0, fence.start(3)) + 1
        found.append(Block(language, excuse[1] if excuse else "", code, line))
    return found


def runnable(page: Path) -> list[Block]:
    """The page's Python blocks, but for those that are excused."""
    return [b for b in blocks(page) if b.language == "python" and not b.excuse]


def run(page: Path, *, shell: bool = False) -> dict[str, object]:
    """Run a page's Python blocks in order, and with `shell` its `ridefense` commands among them.

    Returns:
        The names that the blocks, which share them, have left.
    """
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks(page):
        if block in runnable(page):
            # Empty lines before it: an error names the line of the page.
            code = "\n" * (block.line - 1) + block.code
            exec(compile(code, str(page), "exec"), names)
        for command in commands_of(block) if shell else ():
            assert call(command) == 0, command
    return names


def commands(page: Path) -> list[str]:
    """The page's `ridefense …` commands, each on one line."""
    return [command for block in blocks(page) for command in commands_of(block)]


def commands_of(block: Block) -> list[str]:
    if block.language not in _SHELLS:
        return []
    lines = block.code.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("ridefense ")]


def arguments(command: str) -> list[str]:
    """What follows the program's name, as a shell would pass it."""
    words = shlex.split(command, comments=True)[1:]
    return list(takewhile(lambda word: word not in (">", "|"), words))


def outputs(page: Path) -> Iterator[tuple[str, str]]:
    """Whatever the page's examples write a run to, and what does: a command, or a Python block."""
    for block in blocks(page):
        for command in commands_of(block):
            words = arguments(command)
            if "--out" in words:
                yield words[words.index("--out") + 1], shlex.join(words)
        if block.language == "python":
            for folder in _WRITES.findall(block.code):
                yield folder, f"{page.name}:{block.line}"


def call(command: str) -> int:
    """Run a `ridefense` command in this process; its exit code."""
    with (
        patch.object(sys, "argv", ["ridefense", *arguments(command)]),
        pytest.raises(SystemExit) as stopped,
    ):
        main()
    return stopped.value.code
