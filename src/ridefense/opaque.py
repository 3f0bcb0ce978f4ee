"""The calls that PyTorch's compilers must not look into.

A purifier may leave PyTorch (NumPy, the native engine), fit a network in thousands of steps, or
count its calls. A compiler that traced it would take minutes or give other images. Importing this
module imports PyTorch's compiler, so it is imported where a call is made.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ridefense.defended import Defended
    from ridefense.noise import Id


@torch.compiler.disable
def defence_views(
    model: "Defended", images: Tensor, ids: "Sequence[Id] | None", seed: int | None
) -> Tensor:
    """`Defended.defence_views`, executed as it is under `torch.compile`."""
    return model.defence_views(images, ids, seed)
