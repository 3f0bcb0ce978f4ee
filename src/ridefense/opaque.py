"""The calls that PyTorch's compilers must not look into.

A purifier may leave PyTorch (NumPy, the native engine), fit a network in thousands of steps, or
count its calls. A compiler that traced it would take minutes or give other images. The classifier
behind it is executed as it is, too: compile it by itself, `Defended(torch.compile(classifier), …)`.

Importing this module imports PyTorch's compiler, so it is imported where a call is made.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ridefense.noise import Id

if TYPE_CHECKING:
    from ridefense.defended import Defended


def _views(model: "Defended", images: Tensor, ids: Sequence[Id] | None, seed: int | None) -> Tensor:
    return model._views(images, ids, seed)


def _forward(
    model: "Defended", images: Tensor, ids: Sequence[Id] | None, seed: int | None
) -> Tensor:
    seen = model._views(images, ids, seed)
    if len(seen) == 1:
        return seen[0]
    mean = seen.mean(dim=0)
    return seen[-1].detach() + (mean - mean.detach())


_Call = Callable[["Defended", Tensor, Sequence[Id] | None, int | None], Tensor]

views: _Call = torch.compiler.disable(_views)  # type: ignore[no-untyped-call]  # PyTorch's
"""`Defended.views`, executed as it is under `torch.compile`."""

forward: _Call = torch.compiler.disable(_forward)  # type: ignore[no-untyped-call]  # PyTorch's
"""`Defended.forward`, executed as it is under `torch.compile`.

A caller returns its result at once: where a compiler goes on with a tensor that has a gradient,
PyTorch warns.
"""
