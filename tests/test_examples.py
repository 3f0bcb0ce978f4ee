"""Every example runs, and says what it should: right before the attack, wrong after it."""

import re
import runpy
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "examples"
CLAIM = re.compile(r"(\d+) of (\d+) right(?:, (\d+) after)?")


@pytest.mark.filterwarnings("ignore:Please import `gaussian_filter`:DeprecationWarning")  # foolbox
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_example(path, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", [str(path)])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    claims = CLAIM.findall(capsys.readouterr().out)
    assert claims
    # Loose, for RIDE draws anew in every run and the images are few.
    for right, total, after in claims:
        assert int(right) >= int(total) / 2
        assert not after or int(after) <= int(right) - int(total) / 4
    assert not list(tmp_path.iterdir())


def test_the_page_names_every_example():
    text = (FOLDER.parent / "docs" / "toolboxes.md").read_text()
    linked = set(re.findall(r"\(\.\./examples/(\w+\.py)\)", text))
    assert linked == {path.name for path in FOLDER.glob("*.py")}
