"""Settings as plain data: what records keep, and what two runs are compared by."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ridefense.errors import InputError

Plain = dict[str, Any]
"""Nothing but what JSON can say."""


def describe(value: object, attributes: bool = False) -> Any:
    """A setting as JSON data: a dataclass becomes its type's name and its fields, a network its
    type's name and a fingerprint of its weights.

    Args:
        value: the setting.
        attributes: whether of a network its plain public attributes are told too, and those of
            its submodules by their dotted names. They decide what a purifier does; the labels of
            attacks, which networks are part of, are older and go without.

    Raises:
        InputError: for an object whose settings cannot be told.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [describe(item, attributes) for item in value]
    if isinstance(value, Mapping):
        return {str(key): describe(item, attributes) for key, item in value.items()}
    if isinstance(value, nn.Module):
        told = {"type": type(value).__name__, "weights": fingerprint(value.state_dict())}
        found = _attributes(value) if attributes else {}
        return told | ({"attributes": found} if found else {})
    if is_dataclass(value):
        own = {f.name: describe(getattr(value, f.name), attributes) for f in fields(value)}
        return {"type": type(value).__name__, **own}
    raise InputError(
        f"the settings of a {type(value).__name__} cannot be recorded; make it a frozen dataclass"
    )


def _attributes(module: nn.Module) -> Plain:
    return {
        f"{path}.{name}" if path else name: describe(value)
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if name != "training" and not name.startswith("_") and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits that depend on every name, shape, dtype and value."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def differences(old: Plain, new: Plain) -> Iterator[tuple[str, Any, Any]]:
    """The dotted name and both values of every setting that differs; a missing one is None."""
    for key in dict.fromkeys((*old, *new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from ((f"{key}.{name}", *values) for name, *values in differences(a, b))
        elif a != b:
            yield key, a, b
