"""Code that the user brings, named as "package.module:attribute": classifiers and purifiers."""

import importlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ridefense.errors import InputError, RideError, UserCodeError

if TYPE_CHECKING:
    from torch import device as Device

T = TypeVar("T")

_LIBRARIES = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platlib", "purelib")]
_OWN = Path(__file__).parent


def is_attribute(name: str) -> bool:
    """Whether a name has the form "package.module:attribute"."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), attribute])


def load(name: str) -> object:
    """The attribute with this name; its module is imported.

    Args:
        name: "package.module:attribute", of an installed module or one below the current directory.

    Raises:
        InputError: if there is no such module or attribute.
        UserCodeError: if the import fails.
    """
    module_name, _, attribute = name.partition(":")
    here = os.getcwd()
    if not {here, ""} & {*sys.path}:
        sys.path.insert(0, here)  # `python -m` has it on the path, an installed command has not
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise failed(f"import of {module_name}", error) from error
        raise InputError(
            f"no module {error.name} is installed or in {here}; correct {name!r}"
        ) from error
    except (RideError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise failed(f"import of {module_name}", error) from error
    try:
        found: object = getattr(module, attribute)
    except AttributeError:
        raise InputError(f"{name} does not exist; correct the name after the colon") from None
    return found


def call(what: str, function: Callable[[], T]) -> T:
    """The result of the user's code.

    Args:
        what: is called, for the error, as "lab:denoiser()".
        function: makes the call.

    Raises:
        UserCodeError: if it raises an error. Errors of ridefense and errors about memory, after
            which callers try smaller batches, are raised as they are.
    """
    try:
        return function()
    except (RideError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        from ridefense.memory import is_exhausted

        # torch.utils.checkpoint ends what it repeats by an exception of its own.
        repeated = type(error).__module__ == "torch.utils.checkpoint"
        if repeated or is_exhausted(error):
            raise
        raise failed(what, error) from error


@contextmanager
def seeded(seed: int, device: "Device") -> Iterator[None]:
    """PyTorch's, NumPy's and Python's own generators: seeded inside, and outside as they were.

    Args:
        seed: of 32 bits.
        device: whose generator of PyTorch is seeded beside the processor's.
    """
    import random

    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


_NO_GPU = ("NVIDIA driver", "not compiled with CUDA", "No CUDA GPUs", "no CUDA-capable device")


def failed(what: str, error: BaseException) -> UserCodeError:
    """The error for an exception in the user's code: `raise failed("…", error) from error`."""
    told = explained(error)
    if any(sign in told for sign in _NO_GPU):
        told += "; it needs a GPU: run it where there is one, or let it follow its images' device"
    return UserCodeError(f"{what} failed: {told}")


def explained(error: BaseException) -> str:
    """An exception in one line: its type, its message, and the line of the user's code if any."""
    try:
        message = str(error)
    except Exception:  # an exception's own `__str__` may fail
        message = ""
    told = " ".join(f"{type(error).__name__}: {message}".split()).removesuffix(":")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)]
    if isinstance(error, SyntaxError) or not own:
        return told
    return f"{told} ({Path(own[-1].filename).name}, line {own[-1].lineno})"


def _is_library(filename: str) -> bool:
    if filename.startswith("<"):
        return True
    return any(Path(filename).is_relative_to(folder) for folder in (_OWN, *_LIBRARIES))
