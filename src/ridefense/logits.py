"""What a classifier returns, checked: logits [N, classes], at least two classes."""

from collections.abc import Mapping
from typing import NoReturn

import torch
from torch import Tensor, nn

from ridefense import counting, usercode
from ridefense.errors import InputError


def logits_of(classifier: nn.Module, images: Tensor, name: str | None = None) -> Tensor:
    """A classifier's logits, float [N, classes].

    An output with an attribute `logits`, as those of Hugging Face's transformers, stands for that.

    Args:
        classifier: pixels [N, C, H, W] to logits; code of anybody.
        images: float [N, C, H, W].
        name: of the classifier in errors; by default `name_of`.

    Raises:
        InputError: if it returns anything else.
        UserCodeError: if it raises an error. Errors of ridefense and errors about memory, after
            which callers try smaller batches, are raised as they are.
    """
    name = name or name_of(classifier)
    what = f"classifier {name} on images {list(images.shape)}"
    found = unwrapped(usercode.call(what, lambda: classifier(images)))
    if not isinstance(found, Tensor) or (
        found.ndim != 2
        or len(found) != len(images)
        or found.shape[1] < 2
        or not found.is_floating_point()
        or found.layout != torch.strided
        or found.device != images.device
    ):
        _refuse(name, found, len(images))
    counting.passed(found)
    return found


def unwrapped(output: object) -> object:
    """The logits of an output that holds them as an attribute; any other output as it is."""
    if isinstance(output, Tensor):
        return output
    logits = getattr(output, "logits", None)
    return logits if isinstance(logits, Tensor) else output


def name_of(classifier: nn.Module) -> str:
    """What an error calls a classifier: the name that it was loaded by, or else its type."""
    name = getattr(getattr(classifier, "info", None), "name", None)
    return name if isinstance(name, str) else type(classifier).__name__


def _refuse(name: str, found: object, count: int) -> NoReturn:
    """Say what was returned, and how to make logits of it."""
    remedy = f"return logits [{count}, classes]"
    if isinstance(found, Tensor):
        made = f"{_described(found)}"
        if found.ndim == 2 and len(found) == count and found.shape[1] == 1:
            remedy = "return two logits, one a class: torch.cat([torch.zeros_like(z), z], dim=1)"
        elif found.is_floating_point() and found.ndim == 2 and len(found) == count:
            remedy = "return a dense tensor on the device of the images"
        elif found.ndim == 2 and len(found) == count and found.shape[1] > 1:
            remedy = "return the logits, before argmax or rounding"
    elif isinstance(found, Mapping):
        keys = ", ".join(map(str, found))
        made, remedy = (
            f"a {type(found).__name__} with {keys}",
            _wrapping(repr(next(iter(found), 0))),
        )
    elif isinstance(found, tuple | list):
        parts = ", ".join(map(_described, found))
        made, remedy = f"a {type(found).__name__} of {parts}", _wrapping("0")
    else:
        made = _described(found)
    raise InputError(f"classifier {name} returned {made} for {count} images; {remedy}")


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    kind = "" if value.is_floating_point() else f"{value.dtype} ".removeprefix("torch.")
    layout = "" if value.layout == torch.strided else f"{value.layout} ".removeprefix("torch.")
    return f"a tensor {kind}{layout}{list(value.shape)} on {value.device}".removesuffix(" on cpu")


def _wrapping(key: str) -> str:
    return f"wrap it in a module whose forward returns the logits alone, as self.model(x)[{key}]"
