"""A document made by hand, and readers of its renderings."""

from html.parser import HTMLParser

import torch
from markdown_it import MarkdownIt

from ridefense.pages import (
    NOTHING,
    Card,
    Cell,
    Column,
    Document,
    Figure,
    Gallery,
    Link,
    Picture,
    Section,
    Table,
    Text,
    number,
    share,
)
from ridefense.pages.drawing import Point, curves
from ridefense.pages.pictures import as_webp
from ridefense.results import Accuracy

HOSTILE = "<b onload=x>*a* _b_ `c` [d](javascript:e) |\n# f & ![g](h) <script>i</script> \\"
"""Text that HTML and Markdown would each take for theirs."""


def drawing():
    return curves({"": {"a": [Point(0.0, 1.0, 0.5, 2.0), Point(1.0, 2.0, 1.0, 3.0)]}}, "x", "y")


def picture(value=0.5, **told):
    return Picture("clean", as_webp(torch.full((1, 8, 8), value)), **told)


def example(word="plain"):
    rows = [
        [word, number(4), share(Accuracy(3, 4), "a note")],
        [Cell("RIDE", (word,), link=Link("ride/report")), number(2.5, "2.50 s"), NOTHING],
        [Cell("images", link=Link("ride/images", html_only=True)), NOTHING, share(Accuracy(0, 4))],
    ]
    table = Table(
        f"Table {word}", ["Defence", Column("n", "number"), Column("R", "interval")], rows, word
    )
    cards = (Card(word, 7, (picture(), picture(prediction=word, wrong=True)), failed=True),)
    return Document(
        f"Title {word}",
        (
            Text.of("the answer", word, style="answer"),
            Section(
                f"Part {word}",
                (table, Figure(f"Drawn {word}", drawing, word), Text.of(word, "b", style="list")),
                (Link("runs/a/report", f"The runs {word}"),),
            ),
            Gallery(f"Shown {word}", cards, word),
        ),
        subtitle=word,
        links=(Link("../report", f"Up {word}"),),
        provenance={"Command": f"ridefense {word}", "Date": "2026-01-02"},
    )


class Page(HTMLParser):
    """A page's tags, attributes and text."""

    VOID = ("meta", "img", "input", "br", "link")

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.links, self.text, self.open = [], set(), [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def rendered(text):
    """As a reader of the Markdown sees it."""
    page = Page(MarkdownIt("commonmark").enable("table").render(text))
    return page, "".join(page.text)
