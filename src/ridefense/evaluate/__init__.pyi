from .cluster import Cluster
from .evaluation import Evaluation, Threat
from .history import History
from .lines import CLEAN, FAILED, UNREADABLE
from .protocol import FAULTS, Chunk, chunks_of, evaluate_chunk
from .records import RUNS, Records, RunFolder, find, read
from .rows import REFUSED, Row
from .running import run, run_together
from .workers import Automatic, Here, Processes, Workers

__all__ = [
    "CLEAN",
    "FAILED",
    "FAULTS",
    "REFUSED",
    "RUNS",
    "UNREADABLE",
    "Automatic",
    "Chunk",
    "Cluster",
    "Evaluation",
    "Here",
    "History",
    "Processes",
    "Records",
    "Row",
    "RunFolder",
    "Threat",
    "Workers",
    "chunks_of",
    "evaluate_chunk",
    "find",
    "read",
    "run",
    "run_together",
]
