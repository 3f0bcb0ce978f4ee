"""Documents made by hand, in every rendering."""

import csv
import json
import re
import shutil
import subprocess
from io import BytesIO, StringIO
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from documents import HOSTILE, Page, drawing, example, rendered
from ridefense.evaluate import RunFolder
from ridefense.pages import (
    Cell,
    Document,
    Figure,
    Link,
    Table,
    Text,
    as_csv,
    as_html,
    as_json,
    as_markdown,
    as_terminal,
    made_by,
    slug,
    write,
)
from ridefense.pages.pictures import as_webp, magnification, perturbation
from ridefense.results import Accuracy


def text(document, width=200):
    return as_terminal(document, width)


# --- The document --------------------------------------------------------------------------------


def test_a_row_has_a_cell_for_each_column():
    with pytest.raises(ValueError, match="2"):
        Table("t", ["a"], [["1", "2"]])


def test_blocks_are_found_wherever_they_are():
    found = example()
    assert [t.title for t in found.tables] == ["Table plain"]
    assert [f.title for f in found.figures] == ["Drawn plain"]
    levels = {block.title: level for block, level in found.walk()}
    assert (levels["Part plain"], levels["Table plain"], levels["Shown plain"]) == (2, 3, 2)


def test_a_figure_is_drawn_when_it_is_needed_and_once():
    drawn = []

    def draw():
        drawn.append(1)
        return drawing()

    figure = Figure("f", draw)
    page = Document("t", (figure,))
    as_json(page)
    text(page)
    assert not drawn
    assert as_html(page) == as_html(page)
    assert drawn == [1]


@pytest.mark.parametrize("render", [as_html, as_markdown, as_json, text])
def test_equal_documents_give_equal_bytes(render):
    assert render(example()) == render(example())


@pytest.mark.parametrize("title", ["Accuracy against ε", "..", "a/b\\c", "", "<x>", "∞"])
def test_a_slug_is_a_name_of_a_file_everywhere(title):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(title))


def test_letters_of_the_field_are_spelled_in_slugs():
    assert slug("Accuracy against ε") == "accuracy-against-eps"


def run_folder(versions=None, *provenance):
    return RunFolder(Path("run"), {}, {}, versions or {}, (), provenance)


def test_provenance_tells_each_value_once_and_the_span_of_dates():
    def entry(command, date, **machine):
        machine = {"processor": "CPU", "cores": 2, **machine}
        found = {"command": command, "date": date, "machine": machine, "versions": {"torch": "2"}}
        return found

    runs = [
        run_folder({}, entry("ridefense a", "2026-02-01"), entry("ridefense a", "2026-01-01")),
        run_folder({}, entry("ridefense b", "2026-01-15", cores=1, gpu="GPU")),
    ]
    assert made_by(runs) == {
        "Command": "ridefense a; ridefense b",
        "Date": "2026-01-01 to 2026-02-01",
        "Machine": "CPU, 2 cores; CPU, 1 core, GPU",
        "Versions": "torch 2",
    }


def test_old_records_have_versions_alone():
    assert made_by([run_folder({"torch": "2", "gone": ""})]) == {"Versions": "torch 2"}
    assert made_by([run_folder()]) == made_by([]) == {}


# --- HTML ----------------------------------------------------------------------------------------


def test_a_page_needs_nothing_else():
    html = as_html(example())
    page = Page(html)
    assert not page.open
    assert page.tags.count("table") == 1
    assert "link" not in page.tags
    embedded = [link for link in page.links if link.startswith("data:image/webp;base64,")]
    assert len(embedded) == 2
    # The others lead to pages, or are names within the figure.
    assert {x for x in set(page.links) - set(embedded) if not x.startswith("#")} == {
        "../report.html",
        "runs/a/report.html",
        "ride/report.html",
        "ride/images.html",
    }
    assert not re.search(r"https?://(?!www\.w3\.org)", html)


def test_a_page_forbids_every_script_but_its_own():
    html = as_html(example())
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    assert "default-src &#39;none&#39;" in policy
    assert re.search(r"script-src &#39;sha256-[A-Za-z0-9+/=]{44}&#39;", policy)


def test_cells_carry_the_numbers_they_are_sorted_by():
    page = as_html(example())
    assert re.findall(r'data-value="([^"]+)"', page) == ["4", "0.75", "2.5", "0.0"]
    assert page.count('class="bar"') == 2


def test_a_tone_is_a_colour_in_html_alone():
    page = Document("t", (Table("", ["a"], [[Cell("failed", tone="bad")]]),))
    assert '<span class="bad">failed</span>' in as_html(page)
    assert "| failed |" in as_markdown(page)


def test_html_escapes_what_a_record_says():
    page = Page(as_html(example(HOSTILE)))
    assert page.tags.count("script") == 1
    assert not page.open
    assert not any(name.startswith("on") for name in page.attributes)
    assert not any("javascript" in link for link in page.links)
    assert sum(HOSTILE in part for part in page.text) >= 12


@pytest.mark.parametrize("name", ["javascript:alert(1)", "a b", "50%", "<i>", "(a)", 'a"b'])
def test_a_link_leads_to_the_folder_of_any_name(name):
    page = Document("t", (), links=(Link(f"{name}/report", "x"),))
    for (href,), suffix in (
        (Page(as_html(page)).links, "html"),
        (rendered(as_markdown(page))[0].links, "md"),
    ):
        found = urlsplit(href)
        assert not found.scheme
        assert unquote(found.path) == f"{name}/report.{suffix}"


NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_script_is_one(tmp_path):
    path = tmp_path / "page.js"
    path.write_text(re.search(r"<script>(.*)</script>", as_html(example()), re.DOTALL)[1])
    subprocess.run([NODE, "--check", path], check=True)


# --- The terminal, JSON and CSV ------------------------------------------------------------------


def test_a_terminal_shows_texts_and_tables_as_they_are():
    told = text(example("[red]x[/red]"))
    assert "[red]x[/red]" in told
    assert "75.0%" in told
    assert "the answer" in told


def test_numbers_are_not_broken_in_a_narrow_terminal():
    told = text(example("several words that take room"), 44)
    assert re.search(r"\[19\.4, 99\.4\]", told)
    assert "2.50 s" in told


def test_lines_of_text_are_whole_in_any_width():
    line = " ".join(["word"] * 40)
    assert line in text(Document("t", (Text.of(line, style="list"),)), 30)


def test_styles_are_for_terminals_alone():
    assert "\x1b[" in as_terminal(example(), 80, colour=True)
    assert "\x1b[" not in as_terminal(example(), 80)


def test_json_holds_numbers_and_titles():
    page = json.loads(as_json(example()))
    (part,) = [block for block in page["blocks"] if block["kind"] == "section"]
    table = part["blocks"][0]
    assert table["columns"][1] == {"title": "n", "kind": "number"}
    first = table["rows"][0]["R"]
    assert first["value"] == 0.75
    assert first["interval"] == list(Accuracy(3, 4).interval)
    assert table["rows"][1]["R"] == {"text": "—"}
    assert page["provenance"]["Date"] == "2026-01-02"


def test_csv_holds_values_and_bounds():
    (table,) = example("a,b").tables
    lines = list(csv.reader(StringIO(as_csv(table))))
    assert lines[0] == ["Defence", "n", "R", "R, low", "R, high"]
    assert lines[1][:3] == ["a,b", "4", "0.75"]
    assert [float(x) for x in lines[1][3:]] == list(Accuracy(3, 4).interval)
    assert lines[2] == ["RIDE; a,b", "2.5", "", "", ""]


# --- Files and pictures --------------------------------------------------------------------------


def test_a_document_is_written_with_its_figures(tmp_path):
    found = write(example(), tmp_path / "new", formats=("html", "md", "json", "csv"))
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {
        "report.html", "report.md", "report.json", "report-table-plain.csv", "drawn-plain.svg",
    }  # fmt: skip
    assert {path.name for path in found} == names - {"drawn-plain.svg"}
    assert ElementTree.parse(tmp_path / "new" / "drawn-plain.svg").getroot().tag.endswith("svg")


def test_figures_of_images_are_written_as_webp(tmp_path):
    write(Document("t", (Figure("Grid", drawing, raster=True),)), tmp_path)
    with Image.open(tmp_path / "grid.webp") as image:
        assert image.format == "WEBP"
    assert "![Grid](grid.webp)" in (tmp_path / "report.md").read_text()
    assert "data:image/webp" in (tmp_path / "report.html").read_text()


def test_small_pictures_lose_nothing_and_large_ones_shrink():
    digit = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0))
    with Image.open(BytesIO(as_webp(digit))) as image:
        levels = torch.tensor(list(image.convert("L").tobytes())).view(1, 28, 28)
    assert torch.equal(levels, (digit * 255).round().long())
    with Image.open(BytesIO(as_webp(torch.rand(3, 300, 200)))) as image:
        assert max(image.size) == 112
    assert as_webp(torch.tensor([[[float("nan"), 2.0, -1.0]]]))


def test_a_perturbation_is_scaled_by_what_is_told():
    clean = torch.full((1, 2, 2), 0.5)
    attacked = clean + torch.tensor([[[0.1, -0.1], [0.0, 0.05]]])
    scale = magnification([clean], [attacked])
    assert scale == 5.0
    expected = torch.tensor([[[1.0, 0.0], [0.5, 0.75]]])
    assert torch.allclose(perturbation(clean, attacked, scale), expected, atol=1e-6)
    assert magnification([clean], [clean]) == magnification([], []) == 1.0
    assert magnification([clean * 0], [clean * 0 + 0.9]) == 1.0
