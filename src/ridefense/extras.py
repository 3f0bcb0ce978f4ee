"""Packages that only some parts need, and that an extra installs."""

import importlib
import warnings
from typing import Any

from ridefense.errors import InputError


def package(module: str, extra: str) -> Any:
    """The module, imported.

    Raises:
        InputError: where it is not installed, with the extra that brings it.
    """
    with warnings.catch_warnings():
        # What a package imports from another under a deprecated name is no concern of its user.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f"package {module} is missing; pip install '.[{extra}]' in the folder of ridefense"
            ) from error
