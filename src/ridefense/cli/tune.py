"""ridefense tune"""

import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ridefense.cli import choices
from ridefense.cli.choices import AttackName, EngineName
from ridefense.cli.console import bar, out, say
from ridefense.cli.evaluate import UNCHECKED
from ridefense.evaluate import CLEAN, Evaluation
from ridefense.pages import (
    Cell,
    Column,
    Document,
    Table,
    Text,
    as_terminal,
    number,
    seconds,
    share,
)
from ridefense.tuning import PRESET, Search, Trial, default_grid, read_grid
from ridefense.tuning import tune as carry_out


class EstimatorName(StrEnum):
    ride = "ride"
    dae = "dae"
    idip = "idip"
    dip = "dip"


def tune(
    dataset: choices.Dataset = "digits",
    classifier: choices.ClassifierName = None,
    network: choices.Network = None,
    estimator: Annotated[
        EstimatorName, typer.Option(help="whose settings are tuned")
    ] = EstimatorName.ride,
    preset: Annotated[
        str, typer.Option(help="the settings that a grid does not name; see list")
    ] = "fast",
    grid: Annotated[
        Path | None,
        typer.Option(help="JSON or TOML: the values of each setting  [α × σ around the preset]"),
    ] = None,
    attack: choices.AttackChoice = AttackName.bpda,
    eps: choices.Radii = None,
    step_size: choices.StepSize = None,
    steps: choices.Steps = None,
    images: Annotated[int, typer.Option(min=1, help="searched on, of those not reported")] = 100,
    report_images: Annotated[
        int, typer.Option(min=1, help="that evaluate will draw as --images; none is searched on")
    ] = 100,
    seed: Annotated[int, typer.Option(min=0, max=2**128 - 1)] = 0,
    engine: choices.Engine = EngineName.auto,
    device: choices.Device = None,
    workers: choices.WorkerCount = None,
    ray: choices.RayAddress = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help=f"a folder a θ inside of it, and {PRESET}  [runs/tune-DATASET]"),
    ] = None,
) -> None:
    """Try every θ of a grid of settings, and write the best as a preset (Eq. 6).

    The best has the lowest loss: the cross-entropy on purified images, the mean over clean ones
    and each attack. The images are drawn from the test split without those that will be reported,
    so that the report is of images the search has not seen.

    A grid file names the values of each setting, as learning_rate = [0.002, 0.004], and all
    combinations are tried; or it lists every θ on its own. By default α is 0.8, 0.9 and 0.95, and
    σ half, once and twice the preset's, as in the paper's Figure 5.

    Interrupted or killed, the same command goes on where it stopped; a grid may grow.

    \b
    Examples:
      ridefense tune --images 20
      ridefense tune --dataset mnist --attack pgd --eps 0.2 --grid grid.toml --report-images 1000
      ridefense tune --estimator dae --preset paper --workers 4
    """
    family = choices.family_of(dataset, network)
    device = choices.device(device)
    folder = folder or Path("runs", f"tune-{Path(dataset).name}")
    radii = eps or [family.eps]
    base = choices.purifier(estimator, preset, family.network, engine)
    threats = [choices.threat(attack, radius, step_size, steps, base) for radius in radii]
    theirs = {"dataset": dataset, "classifier": classifier or family.classifier, "device": device}
    search = Search(
        **theirs,
        purifier=base,
        threats=tuple(threat for threat in threats if threat),
        limit=images,
        seeds=(seed,),
        batch=family.chunk(device),
        reported=Evaluation(**theirs, limit=report_images),
    )
    thetas = default_grid(base) if grid is None else read_grid(grid)
    with bar("θ") as move:
        trials = carry_out(search, thetas, folder, move, choices.workers(workers, ray))
    notes = (
        "Brackets: 95% Clopper-Pearson interval, in per cent.",
        "The first θ was chosen on these images: report it on others, as by",
    )
    page = Document("", (_table(search, trials), Text(notes, "list")))
    typer.echo(as_terminal(page, out.width, colour=out.is_terminal), nl=False)
    use = {
        "--dataset": dataset,
        "--classifier": classifier,
        "--network": network,
        "--purifier": None if estimator is EstimatorName.ride else estimator,
        "--preset": folder / PRESET,
        "--engine": None if engine is choices.EngineName.auto else engine,
        "--attack": attack,
        "--steps": steps,
        "--step-size": step_size,
        "--images": report_images,
    }
    words = [str(w) for option, value in use.items() if value is not None for w in (option, value)]
    words += [str(w) for radius in eps or [] for w in ("--eps", radius)]
    out.print(f"ridefense evaluate {shlex.join(words)}", markup=False)
    say(f"wrote {folder / PRESET}, the best of {len(trials)} θ")
    if faulty := sum(bool(row.faults) for trial in trials for row in trial.result.run.rows):
        say(f"{faulty} rows failed a check; ridefense report {folder} has notes")
        raise typer.Exit(UNCHECKED)


def _table(search: Search, trials: Sequence[Trial]) -> Table:
    """A row for each θ, the lowest loss first."""
    changed = list(dict.fromkeys(name for trial in trials for name in trial.changes))
    attacks = {CLEAN: "clean"} | {
        label: f"{threat.name} {threat.attack.eps:g}" for label, threat in search.attacks.items()
    }
    columns = (
        *(Column(name, "number") for name in (*changed, "loss")),
        *(Column(name, "interval") for name in attacks.values()),
        *(Column(name, "number") for name in ("GFLOP/image", "s/image")),
    )
    rows = [
        (
            *(Cell(_shown(getattr(trial.purifier, name))) for name in changed),
            number(trial.loss, f"{trial.loss:.4g}"),
            *(share(trial.scores[label]) for label in attacks),
            number(trial.flops / 1e9, f"{trial.flops / 1e9:.3g}"),
            number(trial.seconds, seconds(trial.seconds)),
        )
        for trial in trials
    ]
    return Table("", columns, rows)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
