"""The call that PyTorch's compilers must not look into.

A purifier may leave PyTorch (NumPy, the native engine), fit a network in thousands of steps, or
count its calls. A compiler that traced it would take minutes or give other images. The classifier
behind it is executed as it is, too: compile it by itself, `Defended(torch.compile(classifier), …)`.

Importing this module imports PyTorch's compiler, so it is imported where a call is made.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ridefense.noise import Id

_Function = Callable[[Tensor, Sequence[Id] | None, int | None], Tensor]


def _call(
    function: _Function, images: Tensor, ids: Sequence[Id] | None, seed: int | None
) -> Tensor:
    return function(images, ids, seed)


call: Callable[[_Function, Tensor, Sequence[Id] | None, int | None], Tensor] = (
    torch.compiler.disable(_call)  # type: ignore[no-untyped-call]  # PyTorch's
)
"""A function's result for (images, ids, seed), executed as it is under `torch.compile`.

A caller returns the result at once: where a compiler goes on with a tensor that has a gradient,
PyTorch warns.
"""
