"""ridefense evaluate"""

from pathlib import Path
from typing import Annotated

import typer

from ridefense.cli import defaults, machine, options, paths, runs
from ridefense.cli.console import say, show
from ridefense.cli.threats import TRAINING, own_norm, threat

UNCHECKED = 3
"""Exit code of an evaluation that finished, but not all of whose rows passed their checks."""


def evaluate(
    dataset: options.Dataset = "digits",
    classifier: options.Classifier = None,
    network: options.Network = None,
    purifier: Annotated[
        list[str] | None, options.purifier("see list; may be repeated  [ride]")
    ] = None,
    defended: Annotated[
        list[str] | None,
        options.defended("a model of yours that is a defence by itself; may be repeated"),
    ] = None,
    static: options.Static = None,
    preset: options.Preset = None,
    attack: options.Attack = "bpda",
    norm: options.Norm = None,
    eps: options.Balls = None,
    step_size: options.StepSize = None,
    steps: options.Steps = None,
    images: options.Images = 100,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="side of the images in pixels  [the classifier's, or their own]"),
    ] = None,
    seed: options.Seed = 0,
    engine: options.Engine = "auto",
    device: options.Device = None,
    workers: options.WorkerCount = None,
    ray: options.RayAddress = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="folder with a run folder for each purifier  [runs/DATASET]"),
    ] = None,
    as_data: Annotated[bool, typer.Option("--json", help="print JSON, not a table")] = False,
    debug: options.Debug = False,
) -> None:
    """Measure clean and robust accuracy.

    Every image has a record, and a page shows them. After an interruption the same command
    resumes, and ends with the same numbers. An attack or another eps may be added to a folder;
    other settings need another folder. The number of workers never changes a result.

    fgsm and pgd know the classifier only: adversarial images are made on the bare classifier, and
    shown to the defence (gray box). The other attacks know the purifier too (white box). bpda is
    the paper's; of a model that is a defence by itself it is PGD. held differentiates the network
    that ride or dae fits to an image, and fits it again only now and then. apgd and autoattack use
    the best derivative of the purifier. They and square run the purifier hundreds or thousands of
    times for each image.

    deepfool and cw look for the nearest misclassified image, and leave right what has none within
    eps. universal adds one perturbation to all images, computed on 100 images of the train split.
    one-pixel and nes see logits alone.

    \b
    Examples:
      ridefense evaluate --images 20
      ridefense evaluate --purifier none --purifier median --purifier ride --eps 0.1 --eps 0.3
      ridefense evaluate --dataset mnist --attack pgd --steps 40 --out runs/gray-box
      ridefense evaluate --purifier ride --purifier dae --attack held --eps 8/255 --images 20
      ridefense evaluate --dataset mnist --images 1000 --workers 4
      ridefense evaluate --purifier none --attack one-pixel --eps pixels:1 --eps pixels:5
      ridefense evaluate --purifier lab:Denoiser --images 20
      ridefense evaluate --defended lab:ensemble --static lab:plain --attack apgd
    """
    named = list(dict.fromkeys(purifier or ([] if defended else ["ride"])))
    paths.check_preset(preset, named)
    norm = norm or own_norm(attack)
    radii = options.balls(eps or (), [norm])
    from ridefense.evaluate import Evaluation
    from ridefense.results import read_results

    own = defaults.of(dataset, network)
    device = machine.device(device)
    folder = folder or Path("runs", Path(dataset).name)
    declared = {}
    attacked = options.static(static, classifier, defended, own.classifier)
    defences = options.defences(named, defended or (), preset, own.network, engine)
    learnt = Evaluation(
        dataset=dataset, split="train", classifier=attacked, limit=TRAINING, size=size
    )
    for name, defence in defences.items():
        threats = [
            threat(
                attack,
                radius,
                step_size,
                steps,
                defence,
                options.NORMS[named_norm],
                lambda: learnt.load()[0].images,
            )
            for named_norm, radius in radii or [(norm, own.radius(norm))]
        ]
        declared[name] = Evaluation(
            dataset=dataset,
            classifier=attacked,
            purifier=defence,
            threats=tuple(threat for threat in threats if threat),
            limit=images,
            size=size,
            seeds=(seed,),
            batch=own.batch_on(device),
            device=device,
        )
    finished = runs.together(declared, folder, machine.workers(workers, ray, device))
    results = read_results(folder)
    if as_data:
        show(results.to_json().rstrip("\n"))
    else:
        from ridefense.cli.report import show_results

        show_results(results, folder)
    if faulty := sum(bool(row.faults) for found in finished for row in found.rows):
        say(f"{faulty} rows failed a check of the attack's or the purifier's output; see the notes")
        raise typer.Exit(UNCHECKED)
