"""ridefense list"""

import json
from typing import Annotated

import typer
from rich.markup import escape

from ridefense import classifiers, datasets
from ridefense.cli.choices import FILTERS, AttackName, EngineName, NetworkName
from ridefense.cli.console import out
from ridefense.estimators import ESTIMATORS
from ridefense.experiments import EXPERIMENTS
from ridefense.presets import PRESETS


def listing(
    as_data: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Name what the other commands can be given."""
    names = {
        "datasets": [*datasets.names(), "a folder of images"],
        "classifiers": [
            *dict.fromkeys((*classifiers.names(), *classifiers.ARCHITECTURES)),
            "efficientnet-lite0",
            "torchvision:NAME",
            "timm:NAME",
            "a .safetensors file",
            "package.module:function",
        ],
        "purifiers": [
            *(
                name if number is None else f"{name}[:NUMBER]"
                for name, (_, number) in FILTERS.items()
            ),
            *ESTIMATORS,
        ],
        "presets": [*PRESETS, "a .json file of tune"],
        "networks": list(NetworkName),
        "attacks": list(AttackName),
        "engines": list(EngineName),
        "experiments": [*EXPERIMENTS, "all"],
    }
    if as_data:
        typer.echo(json.dumps(names, indent=2))
        return
    for kind, known in names.items():
        out.print(f"[bold]{kind}[/bold]: {escape(', '.join(known))}")
