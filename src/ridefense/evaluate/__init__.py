"""Evaluation of a defended classifier: what is declared, how it is run, what is kept of it."""

from ridefense.evaluate.evaluation import Evaluation, Threat
from ridefense.evaluate.protocol import FAULTS, Chunk, chunks_of, evaluate_chunk, run
from ridefense.evaluate.records import Records, Run, find, read
from ridefense.evaluate.rows import CLEAN, Row
from ridefense.evaluate.statistics import Accuracy, Score, clopper_pearson, score, sign_test

__all__ = [
    "CLEAN",
    "FAULTS",
    "Accuracy",
    "Chunk",
    "Evaluation",
    "Records",
    "Row",
    "Run",
    "Score",
    "Threat",
    "chunks_of",
    "clopper_pearson",
    "evaluate_chunk",
    "find",
    "read",
    "run",
    "score",
    "sign_test",
]
