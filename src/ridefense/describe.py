"""Settings as plain data: what identifies an object in records and in errors."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ridefense.errors import InputError

Plain = dict[str, Any]
"""JSON data: nothing but None, bool, int, float, str, lists and dicts."""


@runtime_checkable
class Described(Protocol):
    """An object that says itself what identifies it."""

    def described(self) -> Plain:
        """JSON data with the class's name under "type"."""
        ...


def describe(value: object) -> Any:
    """A setting as JSON data.

    A dataclass becomes `{"type": <class name>, <all fields>}`, with "revision" if the class has
    one above 1. A network becomes its class name, a fingerprint of its weights, and the plain
    public attributes of it and its submodules, under dotted names. A function becomes its name.

    Raises:
        InputError: if the value cannot be told from others by plain data.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, FunctionType):
        return _name_of(value)
    if isinstance(value, Described) and not isinstance(value, type):
        return value.described()
    if isinstance(value, nn.Module):
        attributes = _attributes(value)
        return describe_by_weights(value) | ({"attributes": attributes} if attributes else {})
    if is_dataclass(value) and not isinstance(value, type):
        own = {f.name: describe(getattr(value, f.name)) for f in fields(value)}
        revision = getattr(value, "revision", 1)
        return {"type": type(value).__name__, **own} | (
            {"revision": revision} if revision != 1 else {}
        )
    raise InputError(
        f"the settings of a {type(value).__name__} cannot be recorded; make it a frozen dataclass"
    )


def describe_by_weights(network: nn.Module) -> Plain:
    """A network of which the weights say enough: a classifier, a surrogate."""
    return {"type": type(network).__name__, "weights": _fingerprint_of(network)}


def _name_of(function: FunctionType) -> str:
    if "<" in function.__qualname__:  # a lambda, or defined inside another function
        raise InputError(
            f"records cannot tell the function {function.__qualname__} from another; "
            "define it at the top of a module"
        )
    if function.__module__.startswith("ridefense."):
        return function.__name__
    return f"{function.__module__}.{function.__qualname__}"


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


_Version = tuple[tuple[str, int, int], ...]
_fingerprints: WeakKeyDictionary[nn.Module, tuple[_Version, str]] = WeakKeyDictionary()


def _fingerprint_of(network: nn.Module) -> str:
    """The fingerprint of a network's weights, computed once while they stay as they are.

    PyTorch counts the changes of a tensor, but not those made through `.data`. So weights that
    are still being trained are read every time.
    """
    state = network.state_dict(keep_vars=True)
    if any(t.requires_grad or t.is_inference() for t in state.values()):
        return fingerprint(state)
    version = tuple((name, t.data_ptr(), t._version) for name, t in state.items())
    known = _fingerprints.get(network)
    if known is None or known[0] != version:
        known = _fingerprints[network] = version, fingerprint(state)
    return known[1]


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
