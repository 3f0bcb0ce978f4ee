"""The notebooks run, are committed with their outputs, and open by the links that pages have."""

import re

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

import nbformat

from notebooks import ALL, FOLDER, executed

pytestmark = pytest.mark.slow

NAMES = ["audit-your-own-purifier", "certify-a-purifier", "five-minutes-with-ride"]


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    notebook = executed(path, tmp_path)
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert printed
    assert "Warning" not in printed


def test_the_first_one_shows_what_it_says():
    kept = (FOLDER / "five-minutes-with-ride.ipynb").read_text(encoding="utf-8")
    before, after = map(
        int, re.search(r"(\d+) of 20 right before the attack, (\d+) after", kept).groups()
    )
    purified = int(re.search(r"(\d+) of 20 right after RIDE", kept)[1])
    assert after < purified <= before


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_notebook_has_its_outputs_and_is_small(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert any(cell.outputs for cell in code)
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
    assert path.stat().st_size < 200_000
    assert str(FOLDER.parent) not in path.read_text(encoding="utf-8")


def test_pages_link_to_every_notebook():
    assert [path.stem for path in ALL] == NAMES
    for page in (FOLDER.parent / "README.md", FOLDER.parent / "docs" / "notebooks.md"):
        text = page.read_text(encoding="utf-8")
        for name in NAMES:
            assert f"/blob/main/notebooks/{name}.ipynb" in text, page
