"""A classifier of the user's: a module, or what a function makes."""

from dataclasses import replace

import torch

from ridefense import usercode
from ridefense.classifiers.classifier import Classifier, Info
from ridefense.errors import InputError
from ridefense.images import Normalisation

_AS_IT_IS = Normalisation(mean=(0.0,), std=(1.0,))


def called(name: str) -> Classifier:
    """The module "package.module:attribute", or what a function of that name returns.

    Raises:
        InputError: if there is no such attribute, or if it is or returns no module.
        UserCodeError: if the import or the call fails.
    """
    made = usercode.load(name)
    if not isinstance(made, torch.nn.Module):
        if not callable(made):
            raise InputError(
                f"{name} is a {type(made).__name__}; name a classifier, or a function that "
                "returns one"
            )
        made = usercode.call(f"{name}()", made)
    if isinstance(made, Classifier):
        made.info = replace(made.info, name=name)
        return made.frozen()
    if not isinstance(made, torch.nn.Module):
        raise InputError(
            f"{name} returned a {type(made).__name__}; return a torch.nn.Module, pixels in [0, 1] "
            "to logits"
        )
    info = Info(name=name, architecture=name, dataset="")
    return usercode.call(f"{name}()", Classifier(_AS_IT_IS, made, info).frozen)
