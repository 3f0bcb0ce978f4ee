"""A document as Markdown, as its reader sees it."""

import pytest

from documents import HOSTILE, example, rendered
from ridefense.pages import Document, Link, as_markdown
from ridefense.pages.markdown import escape


def test_markdown_has_links_figures_and_typed_columns():
    told = as_markdown(example())
    assert "| --- | ---: | --- |" in told
    assert "![Drawn plain](drawn-plain.svg)" in told
    assert "[Up plain](../report.md)" in told
    assert "[RIDE](ride/report.md)" in told
    assert "[The runs plain](runs/a/report.md)" in told
    assert "images.md" not in told
    assert "**the answer**" in told
    assert "- Date: 2026-01-02" in told


def test_markdown_escapes_what_a_record_says():
    page, read = rendered(as_markdown(example(HOSTILE)))
    plain = " ".join(HOSTILE.split())
    assert {"b", "script", "em", "code"}.isdisjoint(page.tags)
    assert page.tags.count("tr") == 4
    assert page.tags.count("img") == 1  # the figure
    assert not any("javascript" in link for link in page.links)
    assert read.count(plain) >= 8


@pytest.mark.parametrize(
    "line",
    [
        "# a", "## a", "- a", "+ a", "* a", "1. a", "2) a", "===", "---", "> a", "~~~", "a_b_c",
        "_a_", "[a]: b", "[a][b]", "![a](b)", "<https://a>", "&amp;", "a\\*b", "[91.5, 99.4] of 64",
        "`a`", "***",
    ],
)  # fmt: skip
def test_a_line_is_read_as_it_was_written(line):
    page, read = rendered(escape(line))
    assert read.strip() == line
    assert page.tags == ["p"]


@pytest.mark.parametrize("name", ["a]", "[a", "[a](b)", "![a]", "a]: b", "a][b", "`a", "a\\"])
def test_a_name_with_brackets_is_one_link(name):
    page, read = rendered(as_markdown(Document("t", (), links=(Link("b", name),))))
    assert page.links == ["b.md"]
    assert read.split("\n")[1] == name


def test_what_is_plain_stays_plain():
    for line in ("BPDA, ℓ∞ 0.1", "87.5% [71.0, 96.5] of 32", "cifar10_photographs", "0.3. More"):
        assert escape(line) == line
