"""A model whose operations without a derivative are replaced by smooth ones while it is run.

An attacker who has the code of a classifier leaves out what hides its gradient: he reads the logits
before they are rounded, squashed, or turned into a decision (BPDA, Athalye et al. 2018, operation
by operation). `Relaxed` does so for any code made of PyTorch's functions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_Function = Callable[..., Any]


_LEFT_OUT: tuple[_Function, ...] = (
    *(torch.round, torch.floor, torch.ceil, torch.trunc, torch.fix),
    *(Tensor.round, Tensor.floor, Tensor.ceil, Tensor.trunc, Tensor.fix),
    *(torch.sigmoid, Tensor.sigmoid, F.sigmoid, torch.tanh, Tensor.tanh, F.tanh),
    *(torch.detach, Tensor.detach, torch.log_softmax, Tensor.log_softmax, F.log_softmax),
)
"""Rounding, cuts of the graph, and monotone functions that saturate."""

_SOFTMAX: tuple[_Function, ...] = (torch.softmax, Tensor.softmax, F.softmax)

_CHOICES: tuple[_Function, ...] = (torch.argmax, Tensor.argmax, torch.argsort, Tensor.argsort)
"""Whole numbers in which the order of their input lies."""

_CASTS: tuple[_Function, ...] = (
    *(Tensor.to, Tensor.type, Tensor.type_as, Tensor.float, Tensor.double, Tensor.half),
)


class Relaxed(TorchFunctionMode):
    """Inside, code of PyTorch runs as if it were smooth.

    Rounding, `detach`, `no_grad`, softmax, sigmoid and tanh are left out. A decision
    (`one_hot(argmax(x))`) and a rank (`argsort(argsort(x))`) are x itself once they are numbers of
    a floating-point type. So values differ from those of the code, in a way that keeps their order.
    """

    def __init__(self) -> None:
        super().__init__()
        # What whole numbers were made of, by their identity; they are kept so that it stays theirs.
        self._sources: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self,
        func: _Function,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else kwargs.get("input")
        if func is torch._C._set_grad_enabled:  # what no_grad calls
            return None
        if func in _LEFT_OUT and isinstance(first, Tensor) and first.is_floating_point():
            return first
        if func in _SOFTMAX and isinstance(first, Tensor):
            return first
        source = self._source(first)
        if func in _CASTS and source is not None:
            wanted = func(*args, **kwargs)
            if wanted.is_floating_point() and wanted.shape == source.shape:
                return source.to(wanted)
            return self._remember(wanted, source)
        found = func(*args, **kwargs)
        if func in _CHOICES and isinstance(first, Tensor):
            return self._remember(found, first if source is None else source)
        if func is F.one_hot and source is not None and found.shape == source.shape:
            return self._remember(found, source)
        return found

    def _source(self, value: object) -> Tensor | None:
        known = self._sources.get(id(value))
        return None if known is None else known[1]

    def _remember(self, value: Tensor, source: Tensor) -> Tensor:
        if source.is_floating_point():
            self._sources[id(value)] = value, source
        return value
