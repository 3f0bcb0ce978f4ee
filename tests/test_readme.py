"""The README's Python blocks and its commands, run as they stand."""

import re

import pytest

import pages

pytestmark = pytest.mark.slow

README = pages.ROOT / "README.md"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_python_blocks_run_one_after_another(capsys):
    names = pages.run(README)
    assert len(names["finished"].rows) == 20
    printed = capsys.readouterr().out
    assert "| median 3 |" in printed
    weak, strong = map(int, re.findall(r"(\d+) of 20 digits survive", printed))
    assert strong < weak
    (shown,) = (block.code for block in pages.blocks(README) if block.language == "text")
    assert shown in printed


def test_commands_run_and_succeed(capsys):
    commands = pages.commands(README)
    assert len(commands) >= 4
    for command in commands:
        assert pages.call(command) == 0, (command, capsys.readouterr().err)


def test_the_makefile_has_what_it_promises():
    makefile = (pages.ROOT / "Makefile").read_text()
    shown = "\n".join(block.code for block in pages.blocks(README))
    promised = re.findall(r"^make (\w+)", shown, flags=re.MULTILINE)
    assert {"demo", "check"} <= set(promised)
    assert all(f"\n{target}:" in makefile for target in promised)
    demo = makefile.partition("\ndemo:")[2].partition("\n\n")[0]
    assert "source $(BIN)/activate" in demo  # what it says at the end
