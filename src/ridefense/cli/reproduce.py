"""ridefense reproduce"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ridefense import classifiers, datasets, threads
from ridefense.cli import choices
from ridefense.cli.console import bar, say
from ridefense.errors import InputError
from ridefense.experiments import (
    EXPERIMENTS,
    Setup,
    carry_out,
    declare,
    merge,
    seconds,
    write,
    write_index,
)

ALL = "all"
"""The name of every table and figure at once."""


class ScaleName(StrEnum):
    smoke = "smoke"
    laptop = "laptop"
    paper = "paper"


def reproduce(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="table-2, figure-7, …, all; see list")
    ],
    scale: Annotated[
        ScaleName,
        typer.Option(help="smoke: that it runs; laptop: hours on two cores; paper: its own size"),
    ] = ScaleName.laptop,
    dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=DATASET", help="as cifar10=FOLDER; may be repeated"),
    ] = None,
    classifier: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=CLASSIFIER", help="as imagenet=timm:NAME; may be repeated"),
    ] = None,
    device: choices.Device = None,
    workers: choices.WorkerCount = None,
    ray: choices.RayAddress = None,
    folder: Annotated[Path | None, typer.Option("--out", help="[runs/reproduce-SCALE]")] = None,
) -> None:
    """Run tables and figures of the paper, and write a page of each beside the paper's figures.

    Experiments share their records, so what one has run another finds. Interrupted or killed, the
    same command goes on where it stopped. What needs weights or data that are not here is left
    out, and the page says so.

    \b
    Examples:
      ridefense reproduce all --scale smoke
      ridefense reproduce table-2 figure-7 --workers 2
      ridefense reproduce table-1 --scale paper --ray auto
    """
    unknown = [name for name in names if name != ALL and name not in EXPERIMENTS]
    if unknown:
        raise InputError(f"no experiment {unknown[0]!r}; use {', '.join(EXPERIMENTS)} or {ALL}")
    chosen = [e for name, e in EXPERIMENTS.items() if name in names or ALL in names]
    device = choices.device(device)
    own = {"dataset": _pairs("dataset", dataset), "classifier": _pairs("classifier", classifier)}
    setup = Setup.at(scale, *own.values(), device)
    for option, pairs in own.items():
        for name in pairs.values():
            _load(option, name)
    folder = folder or Path("runs", f"reproduce-{scale}")
    cases = {experiment.name: declare(experiment, setup, folder) for experiment in chosen}
    merged = merge(cases.values())
    spread = min(workers or 1, threads.available())
    say(f"about {_time(seconds(merged, folder) / spread)} of work is left, roughly measured")
    for experiment in chosen:
        with bar("rows") as move:
            carry_out(cases[experiment.name], folder, move, choices.workers(workers, ray))
        results = write(experiment, folder)
        for case, reason in results.missing.items():
            say(f"{experiment.name}: {case} was not run: {reason}")
        say(f"wrote {folder / experiment.name / 'report.html'}")
    write_index(folder, EXPERIMENTS.values())
    say(f"wrote {folder / 'report.html'}")
    if not merged:
        raise InputError("none of it could be run, for the reasons above; supply what is missing")


def _load(option: str, name: str) -> None:
    """Refuse what was named and is not there: what is merely missing is left out later."""
    if option == "dataset":
        datasets.load(name, "test", 1)
    else:
        classifiers.load(name)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in given or []:
        name, sign, value = text.partition("=")
        if not sign or not value:
            raise InputError(f"{option} is {text!r}; write it as cifar10=NAME")
        pairs[name] = value
    return pairs


def _time(value: float) -> str:
    if value < 90:
        return f"{value:.0f} seconds"
    return f"{value / 60:.0f} minutes" if value < 5400 else f"{value / 3600:.1f} hours"
