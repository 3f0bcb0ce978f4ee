"""ridefense certify"""

from pathlib import Path
from typing import Annotated, get_args

import typer

from ridefense.cli import defaults, machine, options, paths, runs
from ridefense.cli.console import say, show_page
from ridefense.names import NoisePath


def certify(
    sigma: Annotated[
        float, typer.Option(help="standard deviation of the noise, pixels in [0, 1], as 0.5")
    ],
    dataset: options.Dataset = "digits",
    classifier: options.Classifier = None,
    network: options.Network = None,
    purifier: Annotated[
        list[str] | None, options.purifier("see list; may be repeated  [none]")
    ] = None,
    defended: Annotated[
        list[str] | None,
        options.defended("a model of yours that is a defence by itself; may be repeated"),
    ] = None,
    static: options.Static = None,
    preset: options.Preset = None,
    n: Annotated[int, typer.Option(min=1, help="draws that count the class of an image")] = 10_000,
    n0: Annotated[int, typer.Option(min=1, help="draws that choose the class")] = 100,
    alpha: Annotated[float, typer.Option(help="probability that a certificate is wrong")] = 0.001,
    path: Annotated[
        NoisePath,
        options.one_of(
            "path",
            get_args(NoisePath),
            "noisy pixels beyond [0, 1]: for the purifier, or clipped before it",
        ),
    ] = "raw",
    images: options.Images = 100,
    seed: options.Seed = 0,
    engine: options.Engine = "auto",
    device: options.Device = None,
    workers: options.WorkerCount = None,
    ray: options.RayAddress = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="folder of results  [runs/certify-DATASET]"),
    ] = None,
    debug: options.Debug = False,
) -> None:
    """Certify predictions by randomised smoothing.

    Every image is classified under Gaussian noise n times. The vote has an ℓ2 radius within which
    no perturbation changes it, whatever the purifier and the classifier are. Every image has a
    record, and a page shows certified accuracy against radius. After an interruption the same
    command resumes, and ends with the same numbers.

    \b
    Examples:
      ridefense certify --sigma 0.5 --purifier blur:0.9 --purifier none --images 20 --n 1000
      ridefense certify --dataset mnist --sigma 0.25 --purifier lines --images 500 --workers 2
    """
    named = list(dict.fromkeys(purifier or ([] if defended else ["none"])))
    paths.check_preset(preset, named)
    from ridefense.certify import Certification, page, read_certificates, write
    from ridefense.certify import certify as run

    own = defaults.of(dataset, network)
    device = machine.device(device)
    folder = folder or Path("runs", f"certify-{Path(dataset).name}")
    defences = options.defences(named, defended or (), preset, own.network, engine)
    attacked = options.static(static, classifier, defended, own.classifier)
    declared = {
        f"{name}-sigma-{sigma:g}": Certification(
            dataset=dataset,
            classifier=attacked,
            purifier=defence,
            limit=images,
            sigma=sigma,
            n0=n0,
            n=n,
            alpha=alpha,
            path=path,
            seed=seed,
            device=device,
        )
        for name, defence in defences.items()
    }
    computed = machine.workers(workers, ray)
    runs.each(declared, folder, "images", lambda one, where, told: run(one, where, told, computed))
    for file in write(folder):
        say(f"wrote {file}")
    show_page(page(read_certificates(folder)))
