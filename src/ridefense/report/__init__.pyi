from .page import as_html
from .paper import FIGURES, Figure, figure
from .summary import Line, Summary, WorstCase, summarise
from .tables import as_json, as_markdown, as_table

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
