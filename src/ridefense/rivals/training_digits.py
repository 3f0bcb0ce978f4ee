"""100 training digits that ship: the patches of image quilting, and what LID compares with."""

import os

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ridefense.rivals.learning import WEIGHTS

SHIPPED = WEIGHTS / "mnist-digits.png"
"""10 of each class in a row, from the training images of `digits`; benchmarks/systems.py."""

_SIDE = 28


def training_digits(path: str | os.PathLike[str] = SHIPPED) -> Tensor:
    """Images [100, 1, 28, 28], float32 in [0, 1]; image i is of class i // 10."""
    with Image.open(path) as sheet:
        levels = torch.from_numpy(np.array(sheet))
    rows = levels.view(10, _SIDE, 10, _SIDE)
    return rows.transpose(1, 2).reshape(100, 1, _SIDE, _SIDE).float() / 255


def save_training_digits(images: Tensor, labels: Tensor) -> None:
    """Write the first 10 images of each class where `training_digits` reads them.

    Args:
        images: float [N, 1, 28, 28] in [0, 1].
        labels: int64 [N].
    """
    chosen = torch.cat([images[labels == label][:10, 0] for label in range(10)])
    sheet = chosen.view(10, 10, _SIDE, _SIDE).transpose(1, 2).reshape(10 * _SIDE, 10 * _SIDE)
    Image.fromarray((sheet * 255).round().byte().numpy()).save(SHIPPED, optimize=True)
