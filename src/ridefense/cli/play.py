"""ridefense app"""

from typing import Annotated

import typer

from ridefense.cli import options
from ridefense.cli.console import say


def play(
    host: Annotated[
        str, typer.Option(help="address to listen on; another than this lets others in")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 7860,
    threads: Annotated[
        int | None, typer.Option(min=1, help="that compute  [the processor's]")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="that one run may take")] = 60.0,
    queue: Annotated[int, typer.Option(min=1, help="runs that may wait")] = 8,
    debug: options.Debug = False,
) -> None:
    """Show a page to play with attacks and purifiers.

    Draw a digit or drop an image, attack it, and see what purifiers make of it. Everything is
    computed on this machine; nothing is fetched or sent, and no image is kept.

    \b
    Examples:
      ridefense app
      ridefense app --port 8080 --threads 2 --seconds 30
    """
    import torch

    from ridefense.app import Limits, run

    if threads is not None:
        torch.set_num_threads(threads)
    run(Limits(seconds=seconds, queue=queue), host=host, port=port, say=say)
