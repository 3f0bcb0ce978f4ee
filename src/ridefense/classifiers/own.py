"""A classifier that a function of the user's makes."""

from dataclasses import replace

import torch

from ridefense import usercode
from ridefense.classifiers.classifier import Classifier, Info
from ridefense.errors import InputError
from ridefense.images import Normalisation

_AS_IT_IS = Normalisation(mean=(0.0,), std=(1.0,))


def called(name: str) -> Classifier:
    """What the function "package.module:function" returns, as a classifier.

    Raises:
        InputError: if there is no such function, or if it returns no module.
        UserCodeError: if the import or the call fails.
    """
    make = usercode.load(name)
    if not callable(make) or isinstance(make, torch.nn.Module):
        raise InputError(
            f"{name} is a {type(make).__name__}; name a function that returns the classifier"
        )
    made = usercode.call(f"{name}()", make)
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
