"""ridefense reproduce"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, get_args

import typer

from ridefense.cli import machine, options
from ridefense.cli.console import bar, duration, say
from ridefense.errors import InputError, unknown
from ridefense.experiments import EXPERIMENTS
from ridefense.names import ScaleName

ALL = "all"
"""The name of every table and figure at once."""


def reproduce(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="table-2, figure-7, …, all; see list")
    ],
    scale: Annotated[
        ScaleName,
        options.one_of(
            "scale",
            get_args(ScaleName),
            "smoke: only that it runs; laptop: hours on two cores; paper: the paper's own size",
        ),
    ] = "laptop",
    dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=DATASET", help="as cifar10=FOLDER; may be repeated"),
    ] = None,
    classifier: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=CLASSIFIER", help="as imagenet=timm:NAME; may be repeated"),
    ] = None,
    device: options.Device = None,
    workers: options.WorkerCount = None,
    ray: options.RayAddress = None,
    folder: Annotated[Path | None, typer.Option("--out", help="[runs/reproduce-SCALE]")] = None,
    debug: options.Debug = False,
) -> None:
    """Run tables and figures of the paper.

    Each has a page, with the paper's numbers beside its own. Experiments share records, so a case
    that one has run is not run again for another. After an interruption the same command resumes.
    A case that needs missing weights or data is left out, and the page says so.

    \b
    Examples:
      ridefense reproduce all --scale smoke
      ridefense reproduce table-2 figure-7 --workers 2
      ridefense reproduce table-1 --scale paper --ray auto
    """
    for name in names:
        if name not in (ALL, *EXPERIMENTS):
            raise unknown("experiment", name, [*EXPERIMENTS, ALL])
    from ridefense import threads
    from ridefense.experiments import (
        Setup,
        carry_out,
        declare,
        merge,
        seconds,
        write,
        write_index,
    )

    chosen = [e for name, e in EXPERIMENTS.items() if name in names or ALL in names]
    device = machine.device(device)
    own_data = options.pairs("dataset", dataset)
    own_classifiers = options.pairs("classifier", classifier)
    setup = Setup.at(scale, own_data, own_classifiers, device)
    _check(own_data.values(), own_classifiers.values())
    folder = folder or Path("runs", f"reproduce-{scale}")
    cases = {experiment.name: declare(experiment, setup, folder) for experiment in chosen}
    merged = merge(cases.values())
    spread = min(machine.processes(workers, device), threads.cores())
    say(f"about {duration(seconds(merged, folder) / spread)} of work is left, roughly measured")
    for experiment in chosen:
        with bar("rows") as move:
            carry_out(cases[experiment.name], folder, move, machine.workers(workers, ray, device))
        results = write(experiment, folder)
        for case, reason in results.missing.items():
            say(f"{experiment.name}: {case} was not run: {reason}")
        say(f"wrote {folder / experiment.name / 'report.html'}")
    write_index(folder, EXPERIMENTS.values())
    say(f"wrote {folder / 'report.html'}")
    if not merged:
        raise InputError("none of it could be run, for the reasons above; supply what is missing")


def _check(data: Iterable[str], models: Iterable[str]) -> None:
    """Refuse data and classifiers that were named and are missing; others are left out later."""
    from ridefense import classifiers, datasets

    for name in data:
        datasets.load(name, "test", 1)
    for name in models:
        classifiers.load(name)
