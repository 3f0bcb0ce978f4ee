"""The documentation: its examples run, its commands and links are right, its site builds."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from pymdownx.slugs import slugify
from typer.main import get_command

import pages
from ridefense.cli.app import app

pytestmark = pytest.mark.slow

DOCS = pages.ROOT / "docs"
README = pages.ROOT / "README.md"
TUTORIAL = DOCS / "tutorial.md"
WRITTEN = sorted(DOCS.rglob("*.md"))
"""All pages below docs/; those in reference/ are made of docstrings when the site is built."""

PARTS = [
    "adapters",
    "app",
    "attacks",
    "audit",
    "board",
    "certify",
    "classifiers",
    "datasets",
    "denoisers",
    "engines",
    "evaluate",
    "gradients",
    "noise",
    "pages",
    "purifiers",
    "report",
    "results",
    "rivals",
    "serve",
    "tuning",
]
PUBLIC = ["ridefense", *(f"ridefense.{part}" for part in PARTS)]
"""The modules that the reference documents."""


def named(page: Path) -> str:
    return str(page.relative_to(pages.ROOT))


# --- Examples and commands ------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "page", [p for p in WRITTEN if pages.runnable(p) and p != TUTORIAL], ids=named
)
def test_examples_run(page):
    pages.run(page)


def test_the_tutorial_runs_and_ends_as_it_says():
    names = pages.run(TUTORIAL, shell=True)
    right, found, classifier = names["right"], names["found"], names["classifier"]
    assert right(classifier, names["images"]) >= 16
    assert right(classifier, found["on the classifier"]) <= 2
    # At ε 0.3, the last of the loop, RIDE has no robustness left.
    assert right(names["defended"], found["frozen weights"]) <= 4
    assert all(Path(name).is_file() for name in ("purified.png", "look.png"))
    made = ("runs/tutorial/report.html", "runs/tutorial-audit/audit.html")
    assert all(Path(page).is_file() for page in made)


def test_few_examples_are_excused_and_each_with_a_reason():
    excused = {
        named(page): [block.excuse for block in pages.blocks(page) if block.excuse]
        for page in WRITTEN
    }
    assert {page for page, excuses in excused.items() if excuses} == {
        "docs/audit.md",
        "docs/classifiers.md",
        "docs/gpu.md",
    }
    # What is marked otherwise would be run; nothing else may hide a block from the tests.
    for page in WRITTEN:
        fences = re.findall(r"^ *```(?:py|python3?|pycon)\b", page.read_text(), re.MULTILINE)
        assert len(fences) == sum(block.language == "python" for block in pages.blocks(page))


@pytest.mark.parametrize("page", [p for p in WRITTEN if pages.commands(p)], ids=named)
def test_commands_are_understood(page):
    for command in pages.commands(page):
        name, *rest = pages.arguments(command)
        get_command(app).commands[name].make_context(name, rest)


def test_pages_read_in_one_folder_do_not_write_to_the_same_runs():
    made: dict[str, dict[Path, set[str]]] = {}
    for page in (README, *WRITTEN):
        for folder, by in pages.outputs(page):
            made.setdefault(folder, {}).setdefault(page, set()).add(by)
    assert {"runs/three", "runs/tutorial", "runs/corners", "runs/tuned"} <= made.keys()
    # One command may stand on two pages.
    shared = {folder for folder, by in made.items() if len(by) > 1 < len(set().union(*by.values()))}
    # The README's evaluation and docs/audit.md's audit, whose runs lie in folders inside of it.
    assert shared <= {"runs/median"}


def test_examples_in_help_are_understood():
    known = get_command(app).commands
    shown = [line.strip() for command in known.values() for line in command.help.splitlines()]
    examples = [line for line in shown if line.startswith("ridefense ")]
    assert len(examples) >= len(known)
    for example in examples:
        name, *rest = pages.arguments(example)
        known[name].make_context(name, rest)


def test_a_wrong_command_would_be_noticed():
    with pytest.raises(Exception, match="No such option: --colour"):
        get_command(app).commands["report"].make_context("report", ["runs/a", "--colour"])


def test_scripts_and_targets_that_pages_name_exist():
    makefile = (pages.ROOT / "Makefile").read_text()
    for page in WRITTEN:
        text = page.read_text()
        for script in re.findall(r"python ((?:benchmarks|examples|tests)/\w+\.py)", text):
            assert (pages.ROOT / script).is_file(), (named(page), script)
        for target in re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE):
            assert f"\n{target}:" in makefile, (named(page), target)


def test_the_method_is_drawn_by_its_script(tmp_path):
    script = pages.ROOT / "benchmarks" / "method.py"
    few = ["--digits", "8", "--preset", "fast", "--out", str(tmp_path)]
    subprocess.run([sys.executable, script, *few], check=True, cwd=tmp_path, stdout=subprocess.PIPE)
    committed = sorted((DOCS / "figures").glob("method-*"))
    assert [figure.name for figure in committed] == sorted(path.name for path in tmp_path.iterdir())
    assert all(figure.stat().st_size < 150_000 for figure in committed)


# --- Links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*WRITTEN, README], ids=named)
def test_links_lead_somewhere_on_disk_too(page):
    html = MarkdownIt("commonmark").enable("table").render(page.read_text())
    for link in re.findall(r'(?:href|src)="([^"]+)"', html):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), (named(page), link)
        if anchor and target.parent.name != "reference":  # MkDocs checks those
            assert anchor in anchors(target), (named(page), link)


def anchors(page: Path) -> list[str]:
    slug = slugify(case="lower")
    return [slug(title, "-") for title in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)]


# --- The site -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=pages.ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr + done.stdout
    return folder


def built(site: Path, page: Path) -> str:
    """The page's HTML; the README is the site's first page."""
    path = "" if page == README else page.relative_to(DOCS).with_suffix("")
    return (site / path / "index.html").read_text()


def test_it_fetches_nothing(site):
    for path in site.rglob("*.html"):
        sources = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', path.read_text())
        assert not [source for source in sources if "//" in source], path


@pytest.mark.parametrize(
    "page", [README, *(p for p in WRITTEN if p.parent.name != "reference")], ids=named
)
def test_it_shows_a_page_as_its_markdown_means_it(site, page):
    """MkDocs has a dialect of its own: a list may need an empty line, or come out as prose."""
    meant = Count()
    meant.feed(f"<article>{MarkdownIt('commonmark').enable('table').render(page.read_text())}")
    shown = Count()
    shown.feed(built(site, page))
    assert shown.seen == meant.seen


class Count(HTMLParser):
    """Counts what Markdown makes within an article: list items, cells, code, emphasis, …"""

    def __init__(self) -> None:
        super().__init__()
        self.inside = False
        self.seen = dict.fromkeys(["li", "td", "pre", "code", "h2", "h3", "em", "strong", "img"], 0)

    def handle_starttag(self, tag, attrs):
        self.inside |= tag == "article"
        if self.inside and tag in self.seen:
            self.seen[tag] += 1

    def handle_endtag(self, tag):
        self.inside &= tag != "article"


def test_pages_that_docstrings_name_are_links(site):
    named = set()
    for path in (site / "reference").rglob("*.html"):
        shown = path.read_text()
        assert not re.search(r"[^\w/\"]docs/[\w/-]+\.md", shown), path
        for link in re.findall(r'<a href="([\w./-]+)">[\w/-]+</a>', shown):
            assert (path.parent / link / "index.html").exists(), (path, link)
            named.add(link)
    assert "../../schedule/" in named


def test_it_shows_the_help_that_every_command_prints(site):
    shown = (site / "reference" / "command" / "index.html").read_text()
    assert shown.count("-h, --help") == len(get_command(app).commands) + 1  # and that of the group


@pytest.mark.parametrize("module", PUBLIC)
def test_the_reference_has_every_public_name(site, module):
    reference = "".join(path.read_text() for path in (site / "reference").rglob("*.html"))
    shown = set(re.findall(r'id="(ridefense[\w.]*)"', reference))
    loaded = importlib.import_module(module)
    exported = getattr(loaded, "__all__", [])
    names = [name for name in exported if not inspect.ismodule(getattr(loaded, name))] or [
        name
        for name, value in vars(loaded).items()
        if name[0] != "_" and getattr(value, "__module__", None) == module
    ]
    assert names
    assert not [n for n in names if not {f"{module}.{n}"} & shown]
