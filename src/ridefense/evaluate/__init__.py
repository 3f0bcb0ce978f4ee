"""Evaluation of a defended classifier: what is declared, how it is run, what is kept of it."""

from ridefense.evaluate.cluster import Cluster
from ridefense.evaluate.evaluation import Evaluation, Threat
from ridefense.evaluate.history import History
from ridefense.evaluate.protocol import FAULTS, Chunk, chunks_of, evaluate_chunk
from ridefense.evaluate.records import Records, Run, find, read
from ridefense.evaluate.rows import CLEAN, UNREADABLE, Row
from ridefense.evaluate.running import run
from ridefense.evaluate.statistics import Accuracy, Score, clopper_pearson, score, sign_flip_test
from ridefense.evaluate.workers import Here, Processes, Workers

__all__ = [
    "CLEAN",
    "FAULTS",
    "UNREADABLE",
    "Accuracy",
    "Chunk",
    "Cluster",
    "Evaluation",
    "Here",
    "History",
    "Processes",
    "Records",
    "Row",
    "Run",
    "Score",
    "Threat",
    "Workers",
    "chunks_of",
    "clopper_pearson",
    "evaluate_chunk",
    "find",
    "read",
    "run",
    "score",
    "sign_flip_test",
]
