"""ridefense serve"""

from typing import Annotated

import typer

from ridefense.cli import options, paths
from ridefense.cli.console import say


def serve(
    classifier: options.Classifier = "digits-cnn",
    purifier: Annotated[str, options.purifier("see list")] = "ride",
    preset: options.Preset = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="side of the images in pixels  [the classifier's]"),
    ] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    threads: Annotated[
        int | None, typer.Option(min=1, help="that compute  [the processor's]")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="images computed together  [4 a thread]")
    ] = None,
    requests: Annotated[
        int, typer.Option(min=1, help="in progress; the next one gets status 429")
    ] = 64,
    timeout: Annotated[
        float, typer.Option(min=0.001, help="seconds until a request gets status 504")
    ] = 30.0,
    upload: Annotated[
        int, typer.Option(min=1, help="bytes of an image file; a larger one gets status 413")
    ] = 8_000_000,
    pixels: Annotated[
        int, typer.Option(min=1, help="of an image; a larger one gets status 413")
    ] = 16_000_000,
    debug: options.Debug = False,
) -> None:
    """Serve a defended classifier over HTTP.

    POST an image file to /v1/classify; the answer is JSON. Images of several requests are computed
    together. /health and /ready are for probes, /metrics is for Prometheus. The seed of the noise
    is a secret: the environment variable RIDEFENSE_SEED, or else 128 random bits. SIGTERM and
    Ctrl-C end the service after the requests that it has accepted are answered.

    \b
    Examples:
      ridefense serve --classifier digits-cnn --purifier ride --preset fast
      ridefense serve --classifier efficientnet-lite0 --purifier median:5 --port 8080 --threads 4
    """
    paths.check_preset(preset, [purifier])
    import torch

    from ridefense import classifiers, purifiers
    from ridefense.classifiers.preparing import input_of
    from ridefense.serve import Limits, Served, run, secret_seed

    seed = secret_seed()
    loaded = classifiers.load(classifier or "digits-cnn")
    takes = input_of(loaded, (size, size) if size else None)
    defence = purifiers.load(purifier, preset=preset)
    served = Served(loaded, defence, takes, seed)
    limits = Limits(
        requests=requests,
        batch=batch or 4 * (threads or torch.get_num_threads()),
        timeout=timeout,
        upload=upload,
        pixels=pixels,
    )
    shape = "×".join(map(str, takes.sizing.size))
    kind = "grey" if takes.channels == 1 else "colour"
    say(f"{defence.name} before {loaded.info.name}, {kind} images of {shape} pixels")
    run(served, limits, host=host, port=port, threads=threads, say=say)
