"""Purifiers by name, as "median", "median:5", "ride" and "package.module:attribute"."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, cast

from ridefense import usercode
from ridefense.errors import InputError, unknown
from ridefense.names import EngineName, NetworkName, PresetName

if TYPE_CHECKING:
    import os

    from torch import Tensor

    from ridefense.purifier import Call, Purifier
    from ridefense.whole import WholeModel


@dataclass(frozen=True)
class Entry:
    """A purifier that has a name.

    Attributes:
        place: "module:class", below the package `ridefense`. The module is imported by `load`.
        about: what the purifier is, in a few words.
        setting: the setting that the number after the colon gives; "" if the purifier has none.
        example: such a number, or None.
        has_presets: whether it is an estimator, whose settings come from a preset and a network.
    """

    place: str
    about: str
    setting: str = ""
    example: int | float | None = None
    has_presets: bool = False

    def load(self) -> "Callable[..., Purifier]":
        """The class; its module is imported."""
        module, name = self.place.split(":")
        loaded: Callable[..., Purifier] = getattr(import_module(f"ridefense.{module}"), name)
        return loaded


PURIFIERS: Mapping[str, Entry] = {
    "ride": Entry("estimators:RIDE", "robust iterative data estimation", has_presets=True),
    "dae": Entry("estimators:DAE", "RIDE without updates of the estimate", has_presets=True),
    "idip": Entry("estimators:IDIP", "iterative deep image prior", has_presets=True),
    "dip": Entry("estimators:DIP", "deep image prior", has_presets=True),
    "recorrupted": Entry(
        "estimators:Recorrupted", "fits to pairs that share their noise", has_presets=True
    ),
    "none": Entry("filters:Unchanged", "no defence"),
    "median": Entry("filters:Median", "median filter", "kernel", 5),
    "tv-chambolle": Entry("filters:TVChambolle", "total variation by Chambolle", "weight", 0.1),
    "tv-bregman": Entry("filters:TVBregman", "total variation by split Bregman", "weight", 5.0),
    "blur": Entry("filters:GaussianBlur", "Gaussian blur, σ in pixels", "sigma", 1.5),
    "contrast-blur": Entry("denoisers:ContrastBlur", "blur, then contrast", "sigma", 0.9),
    "lines": Entry("denoisers:OrientedLines", "means along oriented lines", "along", 2.0),
    "strokes": Entry("denoisers:Strokes", "network trained on drawn strokes"),
    "leaves": Entry("denoisers:Leaves", "network trained on drawn leaves, for colours"),
    "nl-means": Entry("denoisers:NonLocalMeans", "non-local means", "strength", 0.1),
    "jpeg": Entry("rivals:JPEG", "JPEG compression", "quality", 75),
    "bit-depth": Entry("rivals:BitDepth", "fewer bits a channel", "bits", 3),
    "tv-minimisation": Entry("rivals:TVMinimisation", "total variation of random pixels"),
    "crop-ensemble": Entry(
        "rivals:CropEnsemble",
        "mean prediction on random crops",
        "share",
        0.857,
    ),
    "resize-and-pad": Entry("rivals:ResizeAndPad", "random resizing and padding", "smallest", 0.9),
    "pixel-deflection": Entry(
        "rivals:PixelDeflection", "random pixels replaced by neighbours", "deflections", 200
    ),
    "activation-pruning": Entry(
        "rivals:ActivationPruning", "random activations pruned", "share", 1.0
    ),
    "defense-gan": Entry("rivals:DefenseGAN", "projection on a generator of digits"),
    "anti-adversary": Entry("rivals:AntiAdversary", "a surer predicted class", "rate", 0.15),
    "hedge": Entry("rivals:HedgeDefence", "higher losses of all classes", "eps", 0.031),
    "soap": Entry("rivals:SOAP", "an easier self-supervised task, on MNIST", "eps", 0.1),
    "pixel-defend": Entry("rivals:PixelDefend", "a likelier digit, by a PixelCNN", "eps", 0.3),
    "quilting": Entry("rivals:Quilting", "patches of training digits", "nearest", 10),
    "guided-denoiser": Entry("rivals:GuidedDenoiser", "denoiser guided by logits, on MNIST"),
    "lid": Entry("rivals:LID", "refuses by intrinsic dimensionality, on MNIST"),
    "rectifier": Entry("rivals:PerturbationRectifier", "undoes universal perturbations, on MNIST"),
}
"""What `load` knows by name."""


DEFAULT_PRESET: PresetName = "fast"
"""Of an estimator for which no preset is named."""


def load(
    name: str,
    *,
    preset: "str | os.PathLike[str] | None" = None,
    network: NetworkName | None = None,
    engine: EngineName = "auto",
) -> "Purifier":
    """A purifier.

    Args:
        name: a name of `PURIFIERS`; such a name with a number, as "median:5"; or
            "package.module:attribute" for one of your own. The module, installed or below the
            current directory, is imported. The attribute is a purifier, or a class or function that
            makes one when it is called without arguments.
        preset: settings of an estimator ("ride", "dae", "recorrupted", …): a name, or the path of a
            .json file that tuning wrote; "fast" by default.
        network: of an estimator, by the data set; without it the images of a call decide.
        engine: of an estimator.

    Raises:
        InputError: for an unknown name, a number that does not suit, and a preset for a purifier
            that has none.
        UserCodeError: if code of your own fails.
    """
    kind, entry = lookup(name)
    if entry is not None and entry.has_presets:
        from ridefense.estimators import ESTIMATORS

        estimator = ESTIMATORS[kind]
        if network is None and engine == "auto":
            return estimator.preset(preset or DEFAULT_PRESET)
        if network is None:
            raise InputError(f"engine is {engine!r} without a network; name the network too")
        return replace(estimator.preset(preset or DEFAULT_PRESET, network=network), engine=engine)
    if preset is not None:
        known = ", ".join(n for n, other in PURIFIERS.items() if other.has_presets)
        raise InputError(f"preset is {str(preset)!r}, but {name} has no presets; {known} have")
    if entry is None:
        return _own(name)
    if entry.example is None or name == kind:
        return entry.load()()
    return entry.load()(**{entry.setting: type(entry.example)(name.partition(":")[2])})


def lookup(name: str) -> tuple[str, Entry | None]:
    """The name before a colon and its entry; no entry for "package.module:attribute".

    Nothing is imported.

    Raises:
        InputError: for an unknown name, and a number that its purifier cannot take.
    """
    kind, colon, number = name.partition(":")
    entry = PURIFIERS.get(kind)
    if entry is None:
        if usercode.is_attribute(name):
            return name, None
        raise unknown("purifier", name, PURIFIERS, "NAME:NUMBER or package.module:attribute")
    if not colon:
        return kind, entry
    if entry.example is None:
        raise InputError(f"purifier is {name!r}; leave out {colon + number!r}")
    try:
        type(entry.example)(number)
    except ValueError:
        raise InputError(
            f"purifier is {name!r}; leave out {colon + number!r}, or write it as "
            f"{kind}:{entry.example}"
        ) from None
    return kind, entry


def has_presets(name: str) -> bool:
    """Whether `load` takes a preset for this name.

    Raises:
        InputError: as `lookup`.
    """
    _, entry = lookup(name)
    return entry is not None and entry.has_presets


@dataclass(frozen=True)
class UserFunction:
    """A function of the user's own as a purifier.

    Records and other processes know the function by its name alone.

    Attributes:
        name: "package.module:function".
    """

    name: str

    def __call__(
        self, images: "Tensor", ids: "Sequence[int] | None" = None, seed: int = 0
    ) -> "Tensor":
        function = cast("Call", usercode.load(self.name))
        return function(images, ids=ids, seed=seed)


def load_model(name: str) -> "WholeModel":
    """A defended model of your own: a defence that is a model by itself, see `WholeModel`.

    Args:
        name: "package.module:attribute", of a module that is installed or below the current
            directory. The attribute is a model, from images to logits, or a class or function that
            makes one when it is called without arguments.

    Raises:
        InputError: for another form of name, a name that does not exist, and what is no model.
        UserCodeError: if code of your own fails.
    """
    from ridefense.whole import WholeModel

    check_model(name)
    found, is_made = _brought(name)
    if not callable(found):
        told = f"{name}() returned" if is_made else f"{name} is"
        raise InputError(
            f"{told} {_a(found)}; return an nn.Module, or a function from images to logits"
        )
    return WholeModel(cast("Callable[[Tensor], Tensor]", found), known_as=name)


def check_model(name: str) -> None:
    """Refuse what is no name of a defended model; nothing is imported.

    Raises:
        InputError: that names the form.
    """
    if not usercode.is_attribute(name):
        raise InputError(f"the defended model is {name!r}; name it as package.module:attribute")


def _own(name: str) -> "Purifier":
    from ridefense.defended import as_purifier

    found, is_made = _brought(name)
    if not callable(found):
        told = f"{name}() returned" if is_made else f"{name} is"
        raise InputError(f"{told} {_a(found)}; name a purifier, or what returns one")
    made = as_purifier(found, name)
    return as_purifier(UserFunction(name)) if not is_made and inspect.isfunction(found) else made


def _brought(name: str) -> tuple[object, bool]:
    """The attribute of this name, or what it makes where it can be called without arguments.

    Returns:
        The object, and whether the attribute made it.
    """
    from torch import nn

    found = usercode.load(name)
    if not callable(found) or isinstance(found, nn.Module):  # whose call takes anything
        return found, False
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):  # it needs images: it is the defence itself
        return found, False
    return usercode.call(f"{name}()", found), True


def _a(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
