"""Records to a table, in a terminal, as Markdown, as JSON, and as a page with the images."""

from ridefense.report.page import as_html
from ridefense.report.paper import FIGURES, Figure, figure
from ridefense.report.summary import Line, Summary, WorstCase, summarise
from ridefense.report.tables import as_json, as_markdown, as_table

__all__ = [
    "FIGURES",
    "Figure",
    "Line",
    "Summary",
    "WorstCase",
    "as_html",
    "as_json",
    "as_markdown",
    "as_table",
    "figure",
    "summarise",
]
