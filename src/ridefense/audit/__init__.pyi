from .budgets import BUDGETS, Budget
from .checks import Check, failed, sanity
from .examination import Examination, Finding, examine
from .findings import Findings, gather
from .page import AuditResult, compose, conclude, write
from .plan import CURVE, Audit, carry_out
from .verdict import Verdict, verdicts

__all__ = [
    "BUDGETS",
    "CURVE",
    "Audit",
    "AuditResult",
    "Budget",
    "Check",
    "Examination",
    "Finding",
    "Findings",
    "Verdict",
    "carry_out",
    "compose",
    "conclude",
    "examine",
    "failed",
    "gather",
    "sanity",
    "verdicts",
    "write",
]
