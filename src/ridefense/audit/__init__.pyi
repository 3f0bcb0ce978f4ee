from .budgets import BUDGETS, Budget
from .checks import Check, failed, sanity
from .findings import Findings, gather
from .page import Page, as_html, as_markdown, compose, write
from .plan import CURVE, Audit, carry_out
from .verdict import Verdict, verdicts

__all__ = [
    "BUDGETS",
    "CURVE",
    "Audit",
    "Budget",
    "Check",
    "Findings",
    "Page",
    "Verdict",
    "as_html",
    "as_markdown",
    "carry_out",
    "compose",
    "failed",
    "gather",
    "sanity",
    "verdicts",
    "write",
]
