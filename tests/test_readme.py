"""The README's Python blocks and its commands, run as they stand."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from ridefense.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_python_blocks_run_one_after_another(capsys):
    namespace = {}
    for block in blocks("python"):
        exec(block, namespace)
    assert namespace["estimate"].shape == (4, 1, 28, 28)
    assert len(namespace["right"]) == 4
    assert len(namespace["finished"].rows) == 20
    assert "| median 3 |" in capsys.readouterr().out


def test_commands_run_and_succeed(monkeypatch, capsys):
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    commands = [c for c in commands if c.startswith("ridefense ")]
    assert len(commands) >= 4
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 0, (command, capsys.readouterr().err)


def test_the_makefile_has_what_it_promises():
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    promised = re.findall(r"^make (\w+)", "\n".join(blocks("sh")), flags=re.MULTILINE)
    assert {"demo", "test"} <= set(promised)
    assert all(f"\n{target}:" in makefile for target in promised)
