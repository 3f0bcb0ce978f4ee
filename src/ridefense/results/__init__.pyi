from .attack import AttackResult
from .collection import Results, read_results
from .defence import DefenceResult, WorstCase
from .noting import notes, warnings
from .paper import STATED, Stated, stated
from .recorded import RecordedThreat
from .recorded_defence import RecordedDefence
from .statistics import (
    Accuracy,
    Comparison,
    Score,
    clopper_pearson,
    compare,
    score,
    sign_flip_test,
)

__all__ = [
    "STATED",
    "Accuracy",
    "AttackResult",
    "Comparison",
    "DefenceResult",
    "RecordedDefence",
    "RecordedThreat",
    "Results",
    "Score",
    "Stated",
    "WorstCase",
    "clopper_pearson",
    "compare",
    "notes",
    "read_results",
    "score",
    "sign_flip_test",
    "stated",
    "warnings",
]
