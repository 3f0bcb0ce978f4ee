"""Names with a fixed set of values. This module imports nothing, so that the command line and its
errors need not wait for PyTorch.
"""

from typing import Literal

NetworkName = Literal["mnist", "cifar10", "imagenet"]
"""A network of Table 3, by the data set it is for."""

EngineName = Literal["auto", "eager", "native", "cuda"]
"""What executes the fitting loop; see `ridefense.engines`."""

PresetName = Literal["paper", "released", "fast", "warm"]
"""Settings of an estimator; see `ridefense.estimators.PRESETS`."""

ScaleName = Literal["smoke", "laptop", "paper"]
"""How large an experiment is; see `ridefense.experiments.SCALES`."""

BudgetName = Literal["quick", "small", "full"]
"""How much an audit spends; see `ridefense.audit.BUDGETS`."""

NoisePath = Literal["raw", "clipped"]
"""What becomes of noisy pixels beyond [0, 1]: the purifier takes them, or they are clipped first.
Either is a part of the classifier that is smoothed, so both are sound."""
