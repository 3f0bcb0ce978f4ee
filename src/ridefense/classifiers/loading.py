"""Classifiers by name: shipped, trained by the user, of other packages, or made by a function."""

import os
from pathlib import Path

from ridefense import usercode
from ridefense.classifiers import imagenet, own
from ridefense.classifiers.architectures import ARCHITECTURES
from ridefense.classifiers.classifier import Classifier, read
from ridefense.classifiers.imagenet import Expected
from ridefense.datasets import data_root
from ridefense.errors import InputError

_SHIPPED = Path(__file__).parent.parent / "weights"
_PICKLED = (".pth", ".pt", ".pkl", ".pickle", ".bin", ".ckpt", ".tar")


def load(name: str | os.PathLike[str], architecture: str | None = None) -> Classifier:
    """A classifier in eval mode, its weights without gradients.

    Args:
        name: "digits-cnn", "mnist-cnn" or another of `names()`: weights that ship;
            "cifar10-resnet18": the one file `weights/resnet18-cifar10*.safetensors` below
            RIDEFENSE_DATA (at 22 MB it does not ship);
            "torchvision:NAME" and "timm:NAME": ImageNet weights, downloaded once (of torchvision
            IMAGENET1K_V1, the paper's);
            "torchvision:NAME@FILE.safetensors": that network with weights of your own, of as many
            classes as the file has;
            "efficientnet-lite0": ImageNet weights inside a Python package;
            the path of a .safetensors file that `save` wrote, or the name of one in that folder
            `weights`;
            or "package.module:function" for one of your own: the module, installed or below the
            current directory, is imported and the function called, without arguments. It returns
            a `Classifier`, or any module from pixels [N, C, H, W] in [0, 1] to logits or to an
            output with an attribute `logits`.
        architecture: one of `ARCHITECTURES`, for a file by others that does not name it.

    Raises:
        InputError: for an unknown name, where weights or a package are missing, and where a module
            or function of your own fails or gives no classifier.
    """
    name = os.fspath(name)
    source, _, model = name.partition(":")
    if name in names():
        return read(_SHIPPED / f"{name}.safetensors", name=name)
    if source == "torchvision" and model:
        return imagenet.of_torchvision(model)
    if source == "timm" and model:
        return imagenet.of_timm(model)
    if name == "efficientnet-lite0":
        return imagenet.efficientnet_lite0()
    if name in ARCHITECTURES:
        return read(_trained(name), name=name, architecture=name)
    if name.endswith(".safetensors"):
        return read(_file(name), architecture=architecture)
    if usercode.is_attribute(name):
        return own.called(name)
    if name.endswith(_PICKLED):
        raise imagenet.not_safetensors(name)
    known = ", ".join([*names(), *ARCHITECTURES.keys() - set(names()), "efficientnet-lite0"])
    raise InputError(
        f"no classifier {name!r}; use {known}, torchvision:NAME, timm:NAME, a .safetensors file "
        "or package.module:function"
    )


def expected(name: str) -> Expected | None:
    """What a classifier is made for, before anything is downloaded; None where only it knows.

    Raises:
        InputError: as `load`.
    """
    source, _, model = name.partition(":")
    if source == "torchvision" and model:
        return imagenet.torchvision_expects(model)
    if source == "timm" and model:
        return imagenet.timm_expects(model)
    if name == "efficientnet-lite0":
        return imagenet.LITE
    return Expected(ARCHITECTURES[name].classes) if name in ARCHITECTURES else None


def file_of(name: str) -> Path | None:
    """The file that `load` reads the weights of a classifier from; None if they are in no file of
    the user's.

    Raises:
        InputError: as `load`, if the file is missing.
    """
    if name in ARCHITECTURES and name not in names():
        return _trained(name)
    if name.partition(":")[0] == "torchvision":
        _, _, name = name.partition("@")
        return Path(name) if name else None
    return _file(name) if name.endswith(".safetensors") else None


def is_own(name: str) -> bool:
    """Whether a name is that of a user's function, which may return another model each time."""
    source, colon, _ = name.partition(":")
    return bool(colon) and source not in ("torchvision", "timm")


def names() -> list[str]:
    """The classifiers whose weights ship."""
    return sorted(path.stem for path in _SHIPPED.glob("*.safetensors"))


def _file(name: str) -> Path:
    """Where it says, or else among the weights of RIDEFENSE_DATA."""
    path, root = Path(name), data_root()
    if not path.exists() and root and (root / "weights" / name).exists():
        return root / "weights" / name
    return path


def _trained(name: str) -> Path:
    stem = ARCHITECTURES[name].weights
    root = data_root()
    found = sorted((root / "weights").glob(f"{stem}*.safetensors")) if root else []
    # Beside them may lie weights of longer names: adversarially trained, on encoded pixels.
    longer = [a.weights for a in ARCHITECTURES.values() if a.weights.startswith(f"{stem}-")]
    found = [path for path in found if not path.name.startswith((f"{stem}-adv", *longer))]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(path.name for path in found)
        raise InputError(f"{root}/weights has several {name}: {listed}; load one by its path")
    raise InputError(
        f"no weights of {name}; put {stem}.safetensors into $RIDEFENSE_DATA/weights or train it: "
        f"ridefense train-classifier {name} --dataset {name.partition('-')[0]} "
        f"--out {stem}.safetensors"
    )
