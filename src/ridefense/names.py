"""Names with a fixed set of values. This module imports no other, so that the command line and its
errors need not wait for PyTorch.
"""

from collections.abc import Mapping
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

OnCollapse = Literal["keep", "input", "raise"]
"""What becomes of an estimate that lost its image: it is kept, the image itself takes its place, or
an error is raised."""

FORMATS: Mapping[str, str] = {
    "png": "PNG",
    "jpg": "JPEG",
    "jpeg": "JPEG",
    "webp": "WEBP",
    "tif": "TIFF",
    "tiff": "TIFF",
    "bmp": "BMP",
    "gif": "GIF",
    "ppm": "PPM",
    "pgm": "PPM",
    "jp2": "JPEG2000",
    "avif": "AVIF",
}
"""The formats of image files that are written, by suffix, as Pillow calls them."""

NoisePath = Literal["raw", "clipped"]
"""What becomes of noisy pixels beyond [0, 1]: the purifier takes them, or they are clipped first.
Either is a part of the classifier that is smoothed, so both are sound."""
