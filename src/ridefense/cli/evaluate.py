"""ridefense evaluate"""

from pathlib import Path
from typing import Annotated

import typer

from ridefense.cli import choices
from ridefense.cli.choices import AttackName, EngineName
from ridefense.cli.console import bar, say
from ridefense.cli.report import show
from ridefense.evaluate import Evaluation, run
from ridefense.results import read_results

UNCHECKED = 3
"""Exit code of an evaluation that finished, but not all of whose rows passed their checks."""


def evaluate(
    dataset: choices.Dataset = "digits",
    classifier: choices.ClassifierName = None,
    network: choices.Network = None,
    purifier: Annotated[
        list[str] | None,
        typer.Option(help="ride, jpeg:75, none, …; see list; may be repeated  [ride]"),
    ] = None,
    preset: Annotated[str, typer.Option(help="of an estimator's settings; see list")] = "fast",
    attack: choices.AttackChoice = AttackName.bpda,
    eps: choices.Radii = None,
    step_size: choices.StepSize = None,
    steps: choices.Steps = None,
    images: Annotated[int, typer.Option(min=1, help="drawn from the test split")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=2**128 - 1)] = 0,
    engine: choices.Engine = EngineName.auto,
    device: choices.Device = None,
    workers: choices.WorkerCount = None,
    ray: choices.RayAddress = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="a folder a purifier inside of it  [runs/DATASET]"),
    ] = None,
    as_data: Annotated[bool, typer.Option("--json", help="print JSON, not a table")] = False,
) -> None:
    """Measure clean and robust accuracy, and keep a record of every image.

    Interrupted or killed, the same command goes on where it stopped and ends with the same
    numbers. An attack or another eps may be added to a folder; all else needs a folder of its own.
    How many workers there are, and where, never changes a number.

    fgsm and pgd know the classifier only: they are made on it alone, and their images are shown to
    the defence. The others know the purifier too. bpda is the paper's; held differentiates the
    network of purifiers that fit one to the image (ride, dae), and fits it seldom; apgd and
    autoattack take the best derivative there is and, as square does, run the purifier hundreds or
    thousands of times for each image.

    \b
    Examples:
      ridefense evaluate --images 20
      ridefense evaluate --purifier none --purifier median --purifier ride --eps 0.1 --eps 0.3
      ridefense evaluate --dataset mnist --attack pgd --steps 40 --out runs/gray-box
      ridefense evaluate --purifier ride --purifier dae --attack held --eps 8/255 --images 20
      ridefense evaluate --dataset mnist --images 1000 --workers 4
    """
    family = choices.family_of(dataset, network)
    device = choices.device(device)
    folder = folder or Path("runs", Path(dataset).name)
    radii = eps or [family.eps]
    declared = {}
    for name in purifier or ["ride"]:
        defence = choices.purifier(name, preset, family.network, engine)
        threats = [choices.threat(attack, radius, step_size, steps, defence) for radius in radii]
        declared[choices.slug(name, preset)] = Evaluation(
            dataset=dataset,
            classifier=classifier or family.classifier,
            purifier=defence,
            threats=tuple(threat for threat in threats if threat),
            limit=images,
            seeds=(seed,),
            batch=family.chunk(device),
            device=device,
        )
    faulty = 0
    for number, (name, evaluation) in enumerate(declared.items(), 1):
        title = f"{name} ({number} of {len(declared)})"
        with bar("rows") as move:
            finished = run(
                evaluation,
                folder / name,
                lambda doing, done, total, title=title: move(f"{title}: {doing}", done, total),
                choices.workers(workers, ray),
            )
        say(f"{title}: {len(finished.rows)} rows in {folder / name}")
        faulty += sum(bool(row.faults) for row in finished.rows)
    results = read_results(folder)
    if as_data:
        typer.echo(results.to_json(), nl=False)
    else:
        show(results, folder)
    if faulty:
        say(f"{faulty} rows failed a check of the attack's or the purifier's output; see the notes")
        raise typer.Exit(UNCHECKED)
