"""ridefense purify"""

import time
from pathlib import Path
from typing import Annotated

import typer

from ridefense.cli import choices
from ridefense.cli.choices import EngineName, NetworkName
from ridefense.cli.console import bar, say
from ridefense.errors import InputError
from ridefense.estimators import Estimator
from ridefense.imagefiles import load_image, save_image
from ridefense.networks import name_for


def purify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="a PNG or JPEG image")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="the PNG to write")],
    purifier: Annotated[str, typer.Option(help="ride, dae, median:5, …; see list")] = "ride",
    preset: Annotated[str, typer.Option(help="of an estimator's settings; see list")] = "fast",
    network: Annotated[
        NetworkName | None, typer.Option(help="Table 3's; by default the image's own")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**128 - 1)] = 0,
    engine: Annotated[EngineName, typer.Option(help="what fits the network")] = EngineName.auto,
) -> None:
    """Purify one image.

    Without --network, a grey image takes mnist's, a colour image of 32×32 pixels cifar10's, any
    other imagenet's.

    \b
    Examples:
      ridefense purify digit.png clean.png
      ridefense purify photo.jpg clean.png --preset paper --seed 7
      ridefense purify photo.jpg clean.png --purifier tv-chambolle:0.2
    """
    choices.check_target(target, ".png", ".PNG")
    image = load_image(source)
    network = network or NetworkName(name_for(image.shape))
    defend = choices.purifier(purifier, preset, network, engine)
    if defend.position == "inside":
        raise InputError(f"{purifier} is a defence inside a classifier; use it with evaluate")
    began = time.perf_counter()
    if isinstance(defend, Estimator):
        say(f"{defend.name}, preset {preset}, network {network}, {defend.total_steps} steps")
        with bar("steps") as move:

            def progress(done: int, total: int) -> None:
                t = 1 + max(done - 1, 0) * defend.rounds // total
                move(f"fitting, round {t} of {defend.rounds}", done, total)

            found = defend.estimate(image[None], seed=seed, progress=progress)
        purified, engine_used = found.value[0], f" on engine {found.engine}"
    else:
        purified, engine_used = defend(image[None], seed=seed)[0], ""
    save_image(purified, target)
    say(f"wrote {target} after {time.perf_counter() - began:.1f} s{engine_used}")
