"""The paper, table by table and figure by figure: declarations, and pages from their records."""

from ridefense.experiments.ablation import (
    FIGURE_4,
    FIGURE_5A,
    FIGURE_5B,
    FIGURE_5C,
    FIGURE_5D,
    FIGURE_8,
    FIGURE_9,
)
from ridefense.experiments.claims import (
    CLASSIFIERS,
    CLEAN_ACCURACY,
    COST,
    OUTPUT,
    THEOREM_1,
    UNET,
)
from ridefense.experiments.cost import seconds
from ridefense.experiments.distances import FIGURE_7
from ridefense.experiments.experiment import (
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
from ridefense.experiments.images import FIGURE_2, FIGURE_6, FIGURE_10, FIGURE_11, FIGURE_12
from ridefense.experiments.lab import SCALES, Lab
from ridefense.experiments.page import Page, write, write_index
from ridefense.experiments.tables import TABLE_1, TABLE_4, TABLE_5, TABLE_6
from ridefense.experiments.whitebox import TABLE_2

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        TABLE_1,
        TABLE_2,
        TABLE_4,
        TABLE_5,
        TABLE_6,
        FIGURE_2,
        FIGURE_4,
        FIGURE_5A,
        FIGURE_5B,
        FIGURE_5C,
        FIGURE_5D,
        FIGURE_6,
        FIGURE_7,
        FIGURE_8,
        FIGURE_9,
        FIGURE_10,
        FIGURE_11,
        FIGURE_12,
        CLEAN_ACCURACY,
        CLASSIFIERS,
        UNET,
        OUTPUT,
        COST,
        THEOREM_1,
    )
}
"""By name, in the paper's order."""

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
