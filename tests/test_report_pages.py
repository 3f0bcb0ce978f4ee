"""A report's pages: complete in themselves, linked, safe from what a record says."""

import re
import shutil
from html.parser import HTMLParser

import pytest

from evaluations import declare
from reports import BAD, BPDA, GOOD, MIXED, html, markdown, record, two_runs
from ridefense import Median
from ridefense.evaluate import run
from ridefense.report import gallery, write
from ridefense.results import read_results


@pytest.fixture
def folder(tmp_path):
    return two_runs(tmp_path)


def test_a_page_of_records_without_images_has_the_numbers(folder):
    whole = html(read_results(folder))
    for name in ("bare", "ride"):
        shutil.rmtree(folder / name / "images")
    page = html(read_results(folder))
    assert "data:image/webp" in whole
    assert "data:image/webp" not in page
    assert "37.5%" in page


HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)


def test_hostile_names_are_escaped_in_the_page(tmp_path):
    attack = {**BPDA, "name": HOSTILE, "attack": {"type": HOSTILE, HOSTILE: HOSTILE}}
    attacked = {"none": [GOOD], "x": [BAD]}
    purifier = {"type": HOSTILE, "kernel": 3}
    names = {"name": HOSTILE, "title": HOSTILE, "split": HOSTILE, "classes": [HOSTILE] * 10}
    hostile = record(tmp_path / "<b>run", attacked, {"x": attack}, purifier, **names)
    page = html(read_results(tmp_path))
    assert hostile.name not in page
    seen = Tags()
    seen.feed(page)
    assert seen.tags.count("script") == 1  # the page's own
    assert "b" in seen.tags  # the page's own
    assert not any(name.startswith("on") for name in seen.attributes)
    assert page.count("&lt;script&gt;") >= 5


def test_a_markdown_cell_cannot_end_its_row(tmp_path):
    record(tmp_path, {"none": [GOOD], "x": [BAD]}, {"x": {**BPDA, "name": "a|b\n|c"}})
    rows = [r for r in markdown(read_results(tmp_path)).splitlines() if r.startswith("|")]
    assert len(rows) == 3
    assert len({r.replace("\\|", "").count("|") for r in rows}) == 1


def test_the_overview_needs_nothing_else_and_marks_failures(folder):
    page = html(read_results(folder))
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "<link" not in page
    assert page.count('class="card failed"') == 4 + 2  # none: 4 wrong; RIDE: 2 in the first draw
    # Of each image: clean, attacked, the perturbation and purified.
    assert page.count("data:image/webp;base64,") == 2 * 4 * 4
    assert "RIDE, preset fast, 5 rounds of 100 steps" in page


def links(path):
    """Where a page's links lead; all of them must be there."""
    targets = re.findall(r'<a href="([^"#]+)"', path.read_text())
    found = {(path.parent / target).resolve() for target in targets}
    assert all(target.is_file() for target in found), found
    return found


def test_pages_lead_to_their_parts_and_back(folder):
    paths = write(read_results(folder), folder)
    assert {path.name for path in paths} == {"report.html", "report.md"}
    for name in ("bare", "ride"):
        page, images = folder / name / "report.html", folder / name / "attacks" / "bpda.html"
        assert {page, images} <= links(folder / "report.html")
        assert {folder / "report.html", images} == links(page)
        assert links(images) == {page}
    assert "](" not in (folder / "report.md").read_text()  # pages of runs are HTML alone


def test_a_folder_that_is_a_run_has_one_page_without_a_name_for_it(tmp_path):
    record(tmp_path, {"none": [GOOD] * 4, "bpda": [MIXED] * 4}, {"bpda": BPDA})
    write(read_results(tmp_path), tmp_path)
    assert links(tmp_path / "report.html") == {tmp_path / "attacks" / "bpda.html"}
    assert links(tmp_path / "attacks" / "bpda.html") == {tmp_path / "report.html"}
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r">\s*\.\s*<", page)
    assert "<h1>RIDE: digits, test split</h1>" in page


def test_the_perturbation_is_shown_with_its_scale(tmp_path):
    run(declare(tmp_path, purifier=Median()), tmp_path / "run")
    results = read_results(tmp_path)
    for attack in results.attacks:
        shown = gallery(attack, "")
        (eps,) = {attack.eps}
        titles = [[picture.title for picture in card.pictures] for card in shown.cards]
        assert titles == [
            ["clean", "attacked", f"perturbation ×{0.5 / eps:.2g}", "purified"]
        ] * len(shown.cards)
        assert f"times {0.5 / eps:.2g}" in shown.text


def test_clean_images_have_no_perturbation(tmp_path):
    (clean,) = read_results(record(tmp_path, {"none": [GOOD] * 4}, {})).attacks
    for card in gallery(clean, "").cards:
        assert [picture.title for picture in card.pictures] == ["clean", "purified"]


def test_the_page_is_one_for_a_real_run(tmp_path):
    run(declare(tmp_path, purifier=Median()), tmp_path / "run")
    page = html(read_results(tmp_path))
    assert "PGD with the gradient through the purifier as Identity, steps 2" in page
    assert "FGSM with the gradient of the classifier alone" in page


def test_attacks_by_queries_have_no_gradient(tmp_path):
    square = {
        **BPDA,
        "name": "Square Identity",
        "asks": "queries",
        "attack": {"type": "Square", "queries": 5},
    }
    record(tmp_path, {"none": [GOOD], "square": [GOOD]}, {"square": square})
    assert "Square by queries, queries 5" in html(read_results(tmp_path))
