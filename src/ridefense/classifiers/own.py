"""A classifier that a function of the user's makes. Whatever that code does ends in one line."""

import importlib
import os
import sys
from dataclasses import replace

import torch

from ridefense.classifiers.classifier import Classifier, Info
from ridefense.errors import InputError, RideError
from ridefense.images import Normalisation
from ridefense.logits import one_line

_AS_IT_IS = Normalisation(mean=(0.0,), std=(1.0,))


def called(name: str) -> Classifier:
    """What the function "package.module:function" returns, as a classifier.

    The module is imported, from the current directory too.

    Raises:
        InputError: where the import or the call fails, and where it returns no module.
    """
    source, _, attribute = name.partition(":")
    here = os.getcwd()
    if not {here, ""} & {*sys.path}:
        sys.path.insert(0, here)  # as python -m does; a command's own path lacks it
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(source)
    except RideError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{source}.".startswith(f"{error.name}."):
            raise InputError(
                f"no module {error.name} is installed or in {here}; correct {name!r}, or use "
                "torchvision:NAME or timm:NAME"
            ) from error
        raise _failed(f"import of {source}", f"import {source}", error) from error
    make = getattr(module, attribute, None)
    if not callable(make) or isinstance(make, torch.nn.Module):
        what = f"is a {type(make).__name__}" if hasattr(module, attribute) else "does not exist"
        raise InputError(f"{name} {what}; name a function that returns the classifier")
    try:
        made = make()
        return _classifier(name, made)
    except RideError:
        raise
    except (Exception, SystemExit) as error:
        code = f"from {source} import {attribute}; {attribute}()"
        raise _failed(f"{name}()", code, error) from error


def _classifier(name: str, made: object) -> Classifier:
    if isinstance(made, Classifier):
        made.info = replace(made.info, name=name)
        return made.frozen()
    if not isinstance(made, torch.nn.Module):
        raise InputError(
            f"{name} returned a {type(made).__name__}; return a torch.nn.Module, pixels in [0, 1] "
            "to logits"
        )
    return Classifier(_AS_IT_IS, made, Info(name=name, architecture=name, dataset="")).frozen()


def _failed(what: str, code: str, error: BaseException) -> InputError:
    return InputError(f"{what} failed ({one_line(error)}); python -c '{code}' shows where")
