"""ridefense certify"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from ridefense.cli import defaults, machine, options, paths, runs
from ridefense.cli.console import duration, say, show_page
from ridefense.errors import InputError
from ridefense.names import NetworkName, NoisePath

if TYPE_CHECKING:
    from ridefense.certify import CertificateRow, Certification
    from ridefense.evaluate.records import RecordFolder
    from ridefense.evaluate.running import Progress

_BLURS: dict[NetworkName, str] = {"mnist": "blur:0.9", "cifar10": "blur:0.9", "imagenet": "blur:2"}
"""The plain blur that others are compared with, by the size of the images."""


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
    baselines: Annotated[
        bool, typer.Option(help="certify the classifier alone and behind a blur too")
    ] = True,
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
    attack: Annotated[
        list[float] | None,
        typer.Option(
            metavar="EPS",
            help="ℓ2 radius within which the smoothed classifier is attacked too; may be repeated",
        ),
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option(help="a log.tsv of others, to stand beside on the page; may be repeated"),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(min=1, help="how many, drawn from the test split  [100; with --every all]"),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, help="every Nth image of the split, as the field does")
    ] = None,
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
      ridefense certify --sigma 0.5 --purifier lines --images 20 --n 1000
      ridefense certify --dataset mnist --sigma 0.25 --purifier lines --every 20 --workers 2
      ridefense certify --dataset mnist --sigma 0.5 --purifier lines --images 20 --attack 0.5
    """
    own = defaults.of(dataset, network)
    named = list(purifier or ([] if defended else ["none"]))
    if baselines and not defended:
        named += ["none", _BLURS[own.network]]
    named = list(dict.fromkeys(named))
    paths.check_preset(preset, named)
    from ridefense.certify import LOGS, Certification, attacked, read_log, report, write
    from ridefense.certify import certify as run
    from ridefense.evaluate import run as evaluate
    from ridefense.files import write_together

    logs = {f"{read_log(path).name}.tsv": path.read_bytes() for path in log or ()}
    if len(logs) < len(log or ()):
        raise InputError("two of the logs have the same name; rename one")
    device = machine.device(device)
    folder = folder or Path("runs", f"certify-{Path(dataset).name}")
    defences = options.defences(named, defended or (), preset, own.network, engine)
    static_classifier = options.static(static, classifier, defended, own.classifier)
    declared = {
        f"{name}-sigma-{sigma:g}": Certification(
            dataset=dataset,
            classifier=static_classifier,
            purifier=defence,
            limit=images if images or every else 100,
            stride=every or 1,
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
    computed = machine.workers(workers, ray, device)

    def certified(
        one: Certification, where: Path, told: "Progress"
    ) -> "RecordFolder[CertificateRow]":
        say(f"{where.name}: {_cost(one, machine.processes(workers, device))}")
        return run(one, where, told, computed)

    runs.each(declared, folder, "images", certified)
    if attack:
        under = {
            f"{name}-attacked": attacked.evaluation(one, tuple(attack))
            for name, one in declared.items()
        }
        runs.each(under, folder, "rows", lambda one, to, told: evaluate(one, to, told, computed))
    write_together((folder / LOGS / name, content) for name, content in logs.items())
    for file in write(folder):
        say(f"wrote {file}")
    show_page(report(folder))


def _cost(certification: "Certification", workers: int) -> str:
    """What it takes at most, measured on the first image."""
    images, _ = certification.loaded()
    draws = len(images) * (certification.n0 + certification.n)
    speed = certification.draws_per_second()
    return (
        f"{draws:,} draws at {speed:,.0f} a second take at most "
        f"{duration(draws / speed / workers)} with {workers} "
        + ("process" if workers == 1 else "processes")
    )
