"""`ridefense reproduce` and `report` on everything at scale smoke, run once for all tests."""

import fcntl
import json
import os
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from contextlib import redirect_stderr
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO

import pytest
from markupsafe import escape
from PIL import Image

from ridefense import datasets
from ridefense.cli import main
from ridefense.evaluate import CLEAN, read
from ridefense.experiments import EXPERIMENTS, Setup, cost, gather
from ridefense.experiments.scales import SCALES
from ridefense.imagefiles import save_image
from ridefense.pages import Figure, Table
from ridefense.results import STATED

pytestmark = pytest.mark.slow

CITED = sum(stated.cited for stated in STATED)
ROWS = {
    # A row for each case, a column for each attack.
    "table-1": [1 + 2 + 5 + 2 + 4 + 2, 1 + 2 + 5 + 2 + 4 + 2, 1 + 4],
    "table-2": [6 + 4 + 3 + 7, 6 + 2 + 2 + 5, 6 + 1 + 3, CITED],
    "table-4": [1 + 5],
    "table-5": [1 + 5 + 3],
    "table-6": [1 + 10],
    "figure-2": [],
    "figure-4": [],
    "figure-5a": [8 * 2],  # on clean and on attacked images
    "figure-5b": [4 * 2],
    "figure-5c": [5 * 2],
    "figure-5d": [5 * 2],
    "figure-6": [],
    "figure-7": [3 + 3 * 3],
    "figure-8": [8 * 2],
    "figure-9": [4 * 2],
    "figure-10": [],
    "figure-11": [],
    "figure-12": [],
    "text-clean": [3],
    "text-classifiers": [3 * 2],
    "text-unet": [2],
    "text-output": [2 * 2],
    "text-cost": [3],
    "theorem-1": [2],
}
PICTURES = {
    "table-1": 1,
    "figure-2": 3 * 3,  # of a photograph by two schedules, and a digit
    "figure-4": 2,
    "figure-6": 3,  # there is one photograph
    **dict.fromkeys(("figure-5a", "figure-5b", "figure-5c", "figure-5d"), 1),
    **dict.fromkeys(("figure-7", "figure-8", "figure-9"), 1),
    **dict.fromkeys(("figure-10", "figure-11", "figure-12"), 3),  # steps of the attack
    "theorem-1": 2,
}


@pytest.fixture(scope="module")
def call():
    """Runs the command in this process: exit code and stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "_ENOUGH", 0.01)  # a guess of what is left need not be a good one

        def run(*arguments):
            patch.setattr(sys, "argv", ["ridefense", *map(str, arguments)])
            with redirect_stderr(StringIO()) as err, pytest.raises(SystemExit) as stopped:
                main()
            return stopped.value.code, err.getvalue()

        yield run


@pytest.fixture(scope="module")
def smoke(call, tmp_path_factory):
    """The folder of everything; whichever process of the tests comes first fills it for all."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, finished = shared / "smoke", shared / "smoke.finished"
    with open(shared / "smoke.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            code, told = call("reproduce", "all", "--scale", "smoke", "--out", folder)
            assert code == 0, told
            finished.write_text(told)
    return folder, finished.read_text()


def content(folder):
    """Every file below a folder, by its path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class Page(HTMLParser):
    """Counts a page's tags, and knows those that were not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.count = [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_expected_numbers_are_of_all_experiments():
    assert list(ROWS) == list(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_its_page(smoke, name):
    folder, _ = smoke
    found = gather(EXPERIMENTS[name], folder)
    assert not found.refused
    assert found.cases.keys() == EXPERIMENTS[name].cases(Setup.at("smoke")).keys()
    blocks = list(EXPERIMENTS[name].compose(found))
    tables = [block for block in blocks if isinstance(block, Table)]
    pictures = [block for block in blocks if isinstance(block, Figure)]
    assert [len(table.rows) for table in tables] == ROWS[name]
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert len(pictures) == PICTURES.get(name, 0)
    assert len({picture.name for picture in pictures}) == len(pictures)
    if name in ("table-1", "table-4", "table-5", "table-6"):
        assert len(tables[0].columns) == 3 + 4 + 1
        assert "—" not in [cell.text for row in tables[0].rows for cell in row]

    markdown = (folder / name / "report.md").read_text()
    html = (folder / name / "report.html").read_text()
    rows = sum(ROWS[name]) + len(found.cases)  # a row for each run
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(lines) == rows + 2 * (len(tables) + 1)
    assert {line.replace("\\|", "").count("|") for line in lines} == {
        *(len(table.columns) + 1 for table in tables),
        6,
    }
    page = Page(html)
    assert not page.open
    assert page.count.get("tr", 0) == rows + len(tables) + 1
    assert page.count.get("figure", 0) == len(pictures)
    title = f"{EXPERIMENTS[name].source}: {EXPERIMENTS[name].title} (scale smoke)"
    assert markdown.startswith(f"# {title}\n")
    assert f"<h1>{escape(title)}</h1>" in html
    for text in (markdown, html):
        assert "Not run" not in text
        assert "Scale smoke: it shows that the machinery runs" in text
        assert EXPERIMENTS[name].source in text


def test_every_figure_is_one_file(smoke):
    folder, _ = smoke
    named = set()
    for markdown in folder.glob("*/report.md"):
        for _, file in re.findall(r"!\[(.*)\]\((.+?)\)", markdown.read_text()):
            named.add(markdown.parent / file)
    assert len(named) == sum(PICTURES.values())
    assert named == {*folder.glob("*/*.svg"), *folder.glob("*/*.webp")}
    assert not list(folder.glob("*/*.png"))
    assert {path.suffix for path in named} == {".svg", ".webp"}
    for path in named:
        if path.suffix == ".svg":
            root = ElementTree.parse(path).getroot()
            assert root.tag.endswith("svg")
            assert not any(element.tag.endswith("image") for element in root.iter())
        else:
            with Image.open(path) as image:
                image.load()
                assert min(image.size) > 100


def test_every_case_has_its_rows_and_runs_once(smoke):
    folder, told = smoke
    assert re.match(r"about .+ of work is left, roughly measured\n", told)
    assert told.count("wrote") == len(EXPERIMENTS) + 1
    wanted = {}
    for experiment in EXPERIMENTS.values():
        for name, evaluation in experiment.cases(Setup.at("smoke")).items():
            wanted.setdefault(name, {CLEAN}).update(evaluation.attacks)
    assert {path.name for path in (folder / "runs").iterdir()} == set(wanted)
    for name, attacks in wanted.items():
        run = read(folder / "runs" / name)
        count = run.settings["dataset"]["images"]
        assert {row.attack for row in run.rows} == attacks
        assert len(run.rows) == count * len(attacks)
        assert not any(row.faults for row in run.rows)


def links(path):
    """Where a page's links lead; all of them must be there."""
    found = {
        (path.parent / x).resolve() for x in re.findall(r'<a href="([^"#]+)"', path.read_text())
    }
    assert all(target.is_file() for target in found), found
    return found


def test_index_experiments_and_runs_lead_to_each_other(smoke):
    folder, _ = smoke
    index = folder / "report.html"
    pages = {name: folder / name / "report.html" for name in EXPERIMENTS}
    assert links(index) == set(pages.values())
    back = {}
    for name, page in pages.items():
        runs = {
            folder / "runs" / case / "report.html"
            for case in gather(EXPERIMENTS[name], folder).cases
        }
        assert links(page) == {index, *runs}
        for run in runs:
            back.setdefault(run, {index}).add(page)
    for run, expected in back.items():
        assert links(run) == expected
    markdown = (folder / "report.md").read_text()
    assert all(f"]({name}/report.md)" in markdown for name in EXPERIMENTS)
    assert markdown.startswith("# The paper, reproduced (scale smoke)\n")
    assert not Page(index.read_text()).open


def test_neither_reproduce_nor_report_changes_a_byte(smoke, call, tmp_path):
    """In a copy: other processes read what is shared."""
    folder, _ = smoke
    folder = shutil.copytree(folder, tmp_path / "copy")
    before = content(folder)
    code, told = call("reproduce", "all", "--scale", "smoke", "--out", folder)
    assert code == 0
    assert "about 0 seconds of work is left" in told
    assert content(folder) == before
    for name in before:
        if not name.startswith("runs/") and not name.endswith("plan.json"):
            (folder / name).write_bytes(b"")
    code, told = call("report", folder)
    assert code == 0
    assert content(folder) == before


# --- Other data, and bad input -------------------------------------------------------------------


def test_classes_with_odd_names(call, tmp_path):
    digits, classes = datasets.load("digits", limit=2), ("<i>$a_|b", "![c](d) & \\frac{")
    for n in range(8):  # the classifier's other classes
        (tmp_path / "digits" / f"~{n}").mkdir(parents=True)
    for n, name in enumerate(classes):
        (tmp_path / "digits" / name).mkdir()
        save_image(digits.images[n], tmp_path / "digits" / name / f"{n}.png")
    out = tmp_path / "out"
    other = ("--dataset", f"mnist={tmp_path / 'digits'}")
    code, told = call("reproduce", "figure-10", *other, "--scale", "smoke", "--out", out)
    assert code == 0, told
    assert "i" not in Page((out / "figure-10" / "report.html").read_text()).count
    assert list((out / "figure-10").glob("*.webp"))
    run = (out / "runs" / "mnist-grid-median-3" / "report.html").read_text()
    assert "i" not in Page(run).count
    assert "&lt;i&gt;$a_|b" in run


def test_what_has_no_weights_is_left_out(call, monkeypatch, tmp_path):
    arguments = ("reproduce", "theorem-1", "--scale", "smoke", "--out", tmp_path)
    here = SCALES["smoke"]["mnist"]
    monkeypatch.setitem(SCALES["smoke"], "mnist", replace(here, classifier="nowhere.safetensors"))
    code, told = call(*arguments)
    assert code == 2
    assert told.endswith("none of it could be run, for the reasons above; supply what is missing\n")
    reason = "no weights at nowhere.safetensors; correct the path or train some"
    assert f"theorem-1: fit-theorem was not run: {reason}" in told
    assert f"- fit-theorem: {reason}" in (tmp_path / "theorem-1" / "report.md").read_text()
    assert not (tmp_path / "runs").exists()
    # With weights it is run, in the same folder.
    monkeypatch.setitem(SCALES["smoke"], "mnist", here)
    code, told = call(*arguments)
    assert (code, "was not run" in told) == (0, False)
    assert "Not run" not in (tmp_path / "theorem-1" / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("hugo",), "experiment is 'hugo'; use one of table-1, "),
        (("table-1", "hugo"), "experiment is 'hugo'"),
        (("all", "--scale", "hugo"), "scale is 'hugo'; use one of smoke, "),
        (("table-1", "--dataset", "mnist"), "dataset is 'mnist'; write it as cifar10=NAME"),
        (("table-1", "--dataset", "=x"), "dataset is '=x'; write it as cifar10=NAME"),
        (("table-1", "--classifier", "mnist="), "classifier is 'mnist='; write it as"),
        (("table-1", "--classifier", "hugo=x"), "classifier of 'hugo'; use one of"),
        (("table-1", "--classifier", "mnist=nope"), "no classifier 'nope'; use "),
        (("table-1", "--dataset", "mnist=nope"), "nope"),
        (
            ("table-1", "--workers", "0"),
            "should be greater than or equal to 1, not '0'",
        ),
        ((), "NAME..."),
    ],
)
def test_bad_input_is_told_in_one_line(call, monkeypatch, tmp_path, arguments, told):
    monkeypatch.chdir(tmp_path)
    code, err = call("reproduce", *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err
    assert list(tmp_path.iterdir()) == []


def test_another_scale_in_a_folder_is_told_in_one_line_and_harms_nothing(call, tmp_path):
    (tmp_path / "table-1").mkdir()
    plan = {"scale": "smoke", "planned": {}, "refused": {}}
    (tmp_path / "table-1" / "plan.json").write_text(json.dumps(plan))
    before = content(tmp_path)
    code, err = call("reproduce", "theorem-1", "--scale", "laptop", "--out", tmp_path)
    assert code == 2
    assert err.count("\n") == 1
    assert "holds scale smoke, not laptop; choose another folder" in err
    assert content(tmp_path) == before
