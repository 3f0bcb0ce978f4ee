"""ridefense list"""

import json
from textwrap import fill
from typing import Annotated

import typer

from ridefense.cli import options
from ridefense.cli.console import show
from ridefense.cli.threats import ATTACKS
from ridefense.experiments import EXPERIMENTS
from ridefense.purifiers import PURIFIERS

_PRESETS = {
    "paper": "the paper's text: 10,000 steps an image",
    "released": "what the authors released later, where it differs",
    "fast": "a hundredth of the work; not for photographs",
    "warm": "twenty steps from weights that were fitted on other images",
}
_NETWORKS = {
    "mnist": "Table 3, 1 channel",
    "cifar10": "Table 3, 3 channels",
    "imagenet": "Table 3, 3 channels, for photographs",
}
_ENGINES = {
    "auto": "the fastest that can do the settings",
    "eager": "PyTorch on any device",
    "native": "C++ on the CPU",
    "cuda": "Triton on an NVIDIA GPU",
}


def listing(
    as_data: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    debug: options.Debug = False,
) -> None:
    """List the names that the other commands take."""
    known = _known()
    if as_data:
        show(json.dumps({kind: list(entries) for kind, entries in known.items()}, indent=2))
        return
    for kind, entries in known.items():
        show(f"{kind}:")
        if not any(entries.values()):
            show(fill(", ".join(entries), 78, initial_indent="  ", subsequent_indent="  "))
        else:
            width = max(map(len, entries))
            for name, about in entries.items():
                show(f"  {name:{width}}  {about}".rstrip())
        show("")


def _known() -> dict[str, dict[str, str]]:
    """Kinds of names, the names of each kind, and what a name stands for."""
    from ridefense import classifiers, datasets

    shipped = classifiers.names()
    trained = [name for name in classifiers.ARCHITECTURES if name not in shipped]
    return {
        "datasets": dict.fromkeys(datasets.names(), "") | {"FOLDER": "a folder of images"},
        "classifiers": {
            **dict.fromkeys(shipped, "weights ship"),
            **dict.fromkeys(trained, "weights are below RIDEFENSE_DATA, or yours"),
            "efficientnet-lite0": "ImageNet; the extra efficientnet-lite",
            "torchvision:NAME": "ImageNet; downloaded",
            "timm:NAME": "ImageNet; downloaded, the extra timm",
            "FILE.safetensors": "from train-classifier",
            "module:function": "your function, which returns a module from pixels to logits",
        },
        "purifiers": {
            **{
                f"{name}[:{entry.setting}]" if entry.setting else name: entry.about
                for name, entry in PURIFIERS.items()
            },
            "module:attribute": "your purifier, or a class or function that makes it",
        },
        "presets": _PRESETS | {"FILE.json": "from tune"},
        "networks": _NETWORKS,
        "attacks": dict(ATTACKS),
        "engines": _ENGINES,
        "experiments": dict.fromkeys([*EXPERIMENTS, "all"], ""),
    }
