from .catalogue import EXPERIMENTS
from .cost import seconds
from .experiment import (
    Cases,
    Evidence,
    Experiment,
    carry_out,
    declare,
    gather,
    merge,
    planned,
    run_folder,
)
from .lab import SCALES, Lab
from .page import Page, write, write_index

__all__ = [
    "EXPERIMENTS",
    "SCALES",
    "Cases",
    "Evidence",
    "Experiment",
    "Lab",
    "Page",
    "carry_out",
    "declare",
    "gather",
    "merge",
    "planned",
    "run_folder",
    "seconds",
    "write",
    "write_index",
]
