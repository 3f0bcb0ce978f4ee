"""ridefense purify"""

import time
from pathlib import Path
from typing import Annotated

import typer

from ridefense import purifiers
from ridefense.cli import options, paths
from ridefense.cli.console import bar, say
from ridefense.errors import InputError


def purify(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="image file: PNG, JPEG, WebP, TIFF, …")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="the PNG to write")],
    purifier: Annotated[str, options.purifier("see list")] = "ride",
    preset: options.Preset = None,
    network: options.Network = None,
    seed: options.Seed = 0,
    engine: options.Engine = "auto",
    debug: options.Debug = False,
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
    paths.check_target(target, ".png", ".PNG")
    paths.check_preset(preset, [purifier])
    from ridefense.estimators import Estimator
    from ridefense.imagefiles import header, load_image, save_image
    from ridefense.networks import name_for

    image = load_image(source)
    for note in header(source, str(source)).notes:
        say(f"{source}: {note}")
    network = network or name_for(image.shape)
    defend = options.made(purifier, preset, network, engine)
    if defend.position == "inside":
        raise InputError(f"{purifier} is a defence inside a classifier; use it with evaluate")
    began = time.perf_counter()
    if isinstance(defend, Estimator):
        used = preset or purifiers.DEFAULT_PRESET
        say(f"{defend.name}, preset {used}, network {network}, {defend.total_steps} steps")
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
