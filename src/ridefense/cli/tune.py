"""ridefense tune"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ridefense import purifiers, usercode
from ridefense.cli import defaults, machine, options
from ridefense.cli.console import bar, say, show, show_page
from ridefense.cli.evaluate import UNCHECKED
from ridefense.cli.threats import threat
from ridefense.errors import InputError

if TYPE_CHECKING:
    from ridefense.pages import Document
    from ridefense.tuning import Search, Trial


def tune(
    dataset: options.Dataset = "digits",
    classifier: options.Classifier = None,
    network: options.Network = None,
    purifier: Annotated[
        str, options.purifier("ride, dae, idip, dip, recorrupted, or an estimator of yours")
    ] = "ride",
    preset: options.Preset = None,
    grid: Annotated[
        Path | None,
        typer.Option(help="JSON or TOML: the values of each setting  [α × σ around the preset]"),
    ] = None,
    attack: options.Attack = "bpda",
    eps: options.Radii = None,
    step_size: options.StepSize = None,
    steps: options.Steps = None,
    images: Annotated[
        int, typer.Option(min=1, help="how many to search on, of those that are not reported")
    ] = 100,
    report_images: Annotated[
        int,
        typer.Option(min=1, help="how many evaluate will draw by --images; held out of the search"),
    ] = 100,
    seed: options.Seed = 0,
    engine: options.Engine = "auto",
    device: options.Device = None,
    workers: options.WorkerCount = None,
    ray: options.RayAddress = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="folder with a run folder for each θ, and preset.json  [runs/tune-DATASET]",
        ),
    ] = None,
    debug: options.Debug = False,
) -> None:
    """Search settings of an estimator.

    Each combination θ of a grid of settings is evaluated (Eq. 6), and the best is written as a
    preset. It has the lowest loss: the cross-entropy on purified images, averaged over clean images
    and each attack. The images that will be reported are held out of the search.

    A grid file names the values of each setting, as learning_rate = [0.002, 0.004], and all
    combinations are tried; or it lists every θ by itself. By default α is 0.8, 0.9 and 0.95, and σ
    is half, once and twice the preset's, as in the paper's Figure 5.

    After an interruption the same command resumes; a grid may grow.

    \b
    Examples:
      ridefense tune --images 20
      ridefense tune --dataset mnist --attack pgd --eps 0.2 --grid grid.toml --report-images 1000
      ridefense tune --purifier dae --preset paper --workers 4
    """
    if not (purifier in _ESTIMATORS or usercode.is_attribute(purifier)):
        raise InputError(f"{purifier} is no estimator; tune one of {', '.join(_ESTIMATORS)}")
    from ridefense.estimators import Estimator
    from ridefense.evaluate import Evaluation
    from ridefense.tuning import PRESET, Search, default_grid, read_grid
    from ridefense.tuning import tune as search_grid

    own = defaults.of(dataset, network)
    device = machine.device(device)
    folder = folder or Path("runs", f"tune-{Path(dataset).name}")
    radii = eps or [own.eps]
    base = options.made(purifier, preset, own.network, engine)
    if not isinstance(base, Estimator):
        raise InputError(f"{purifier} is no estimator; let it be one, as RIDE(…)")
    threats = [threat(attack, radius, step_size, steps, base) for radius in radii]
    defended = classifier or own.classifier
    search = Search(
        dataset=dataset,
        classifier=defended,
        device=device,
        purifier=base,
        threats=tuple(threat for threat in threats if threat),
        limit=images,
        seeds=(seed,),
        batch=own.batch_on(device),
        reported=Evaluation(
            dataset=dataset, classifier=defended, device=device, limit=report_images
        ),
    )
    thetas = default_grid(base) if grid is None else read_grid(grid)
    with bar("θ") as move:
        trials = search_grid(search, thetas, folder, move, machine.workers(workers, ray, device))
    say(f"wrote {folder / PRESET}, the best of {len(trials)} θ")
    show_page(_page(search, trials))
    if purifier in _ESTIMATORS:
        show("· The first θ was chosen on these images. Report it on others, as by")
        use = {
            "--dataset": dataset,
            "--classifier": classifier,
            "--network": network,
            "--purifier": None if purifier == "ride" else purifier,
            "--preset": folder / PRESET,
            "--engine": None if engine == "auto" else engine,
            "--attack": attack,
            "--steps": steps,
            "--step-size": step_size,
            "--images": report_images,
        }
        words = [str(w) for name, value in use.items() if value is not None for w in (name, value)]
        words += [str(w) for radius in eps or [] for w in ("--eps", radius)]
        show(f"ridefense evaluate {shlex.join(words)}")
    if faulty := sum(bool(row.faults) for trial in trials for row in trial.result.run.rows):
        say(f"{faulty} rows failed a check; ridefense report {folder} has notes")
        raise typer.Exit(UNCHECKED)


_ESTIMATORS = [name for name, entry in purifiers.PURIFIERS.items() if entry.has_presets]


def _page(search: "Search", trials: Sequence["Trial"]) -> "Document":
    """A row for each θ, the lowest loss first."""
    from ridefense.evaluate import CLEAN
    from ridefense.pages import Cell, Column, Document, Table, Text, number, seconds, share

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
    brackets = Text.of("Brackets: 95% Clopper-Pearson interval, in per cent.", style="list")
    return Document("", (Table("", columns, rows), brackets))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
