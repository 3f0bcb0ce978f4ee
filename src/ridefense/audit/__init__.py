"""The audit: every attack that applies, sanity checks, and a verdict that the records give."""

from ridefense.audit.budgets import BUDGETS, Budget
from ridefense.audit.checks import Check, failed, sanity
from ridefense.audit.findings import Findings, gather
from ridefense.audit.page import Page, as_html, as_markdown, compose, write
from ridefense.audit.plan import CURVE, Audit, carry_out
from ridefense.audit.threats import threats
from ridefense.audit.verdict import Verdict, verdicts

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
    "threats",
    "verdicts",
    "write",
]
