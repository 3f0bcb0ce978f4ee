from .catalogue import EXPERIMENTS
from .cost import seconds
from .experiment import (
    Cases,
    Experiment,
    ExperimentResults,
    carry_out,
    declare,
    gather,
    merge,
    planned,
    run_folder,
)
from .page import write, write_index
from .scales import SCALES, Setup

__all__ = [
    "EXPERIMENTS",
    "SCALES",
    "Cases",
    "Experiment",
    "ExperimentResults",
    "Setup",
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
