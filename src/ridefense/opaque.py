"""The calls that PyTorch's compilers must not look into.

A purifier may leave PyTorch (NumPy, the native engine), fit a network in thousands of steps, or
count its calls. A compiler that traced it would take minutes or give other images. The classifier
behind it is executed as it is, too: compile it by itself, `Defended(torch.compile(classifier), …)`.

Importing this module imports PyTorch's compiler, so it is imported where a call is made.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ridefense.noise import Id

if TYPE_CHECKING:
    from ridefense.defended import Defended


@torch.compiler.disable  # type: ignore[untyped-decorator]  # PyTorch does not type it
def views(model: "Defended", images: Tensor, ids: Sequence[Id] | None, seed: int | None) -> Tensor:
    """`Defended.views`, executed as it is under `torch.compile`."""
    return model._views(images, ids, seed)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # PyTorch does not type it
def forward(
    model: "Defended", images: Tensor, ids: Sequence[Id] | None, seed: int | None
) -> Tensor:
    """`Defended.forward`, executed as it is under `torch.compile`."""
    seen = model._views(images, ids, seed)
    if len(seen) == 1:
        return seen[0]
    mean = seen.mean(dim=0)
    return seen[-1].detach() + (mean - mean.detach())
