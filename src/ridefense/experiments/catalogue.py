"""Every table and figure of the paper by name; an experiment's module is imported when it is used.

The names alone cost no import of PyTorch, which the command line's help and errors need.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ridefense.experiments.experiment import Experiment

_PLACES = {
    "table-1": "tables:TABLE_1",
    "table-2": "whitebox:TABLE_2",
    "table-4": "tables:TABLE_4",
    "table-5": "tables:TABLE_5",
    "table-6": "tables:TABLE_6",
    "figure-2": "images:FIGURE_2",
    "figure-4": "ablation:FIGURE_4",
    "figure-5a": "ablation:FIGURE_5A",
    "figure-5b": "ablation:FIGURE_5B",
    "figure-5c": "ablation:FIGURE_5C",
    "figure-5d": "ablation:FIGURE_5D",
    "figure-6": "images:FIGURE_6",
    "figure-7": "distances:FIGURE_7",
    "figure-8": "ablation:FIGURE_8",
    "figure-9": "ablation:FIGURE_9",
    "figure-10": "images:FIGURE_10",
    "figure-11": "images:FIGURE_11",
    "figure-12": "images:FIGURE_12",
    "text-clean": "claims:CLEAN_ACCURACY",
    "text-classifiers": "claims:CLASSIFIERS",
    "text-unet": "claims:UNET",
    "text-output": "claims:OUTPUT",
    "text-cost": "claims:COST",
    "theorem-1": "claims:THEOREM_1",
}
"""Module and attribute of each experiment, in the paper's order."""


class _Catalogue(Mapping[str, "Experiment"]):
    """Experiments by name, in the paper's order."""

    def __getitem__(self, name: str) -> "Experiment":
        module, attribute = _PLACES[name].split(":")
        experiment: Experiment = getattr(
            import_module(f"ridefense.experiments.{module}"), attribute
        )
        return experiment

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


EXPERIMENTS: Mapping[str, "Experiment"] = _Catalogue()
"""The experiments by name; a module is imported when its experiment is first looked up."""
