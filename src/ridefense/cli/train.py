"""ridefense train-classifier"""

from pathlib import Path
from typing import Annotated

import typer

from ridefense.cli import machine, options, paths
from ridefense.cli.console import bar, say
from ridefense.errors import InputError


def train_classifier(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="mnist-cnn, cifar10-resnet20 or cifar10-resnet18, NAME-thermometer, or "
            "mnist-cnn-denoising",
        ),
    ],
    dataset: Annotated[str, typer.Option(help="whose train split it learns, test split tests it")],
    out: Annotated[Path, typer.Option(help="the .safetensors file to write")],
    epochs: Annotated[int | None, typer.Option(min=1, help="by default the recipe's")] = None,
    adversarial: Annotated[
        float | None,
        typer.Option(
            parser=options.radius,
            metavar="EPS",
            help="train on attacked images within eps, as 0.3 or 8/255",
        ),
    ] = None,
    method: Annotated[
        str | None,
        options.one_of(
            "method",
            ("replace", "alp", "cascade"),
            "of --adversarial: attacked images replace the clean ones (the default), logit pairing "
            "(ALP), or cascade adversarial training",
        ),
    ] = None,
    attack: Annotated[
        str | None,
        options.one_of(
            "attack",
            ("pgd", "fgsm"),
            "of --adversarial, from a random start: PGD of 10 steps, or FGSM  [pgd; of cascade "
            "fgsm]",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="of --method cascade: the defended classifier that PGD attacks"
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="NAME", help="a classifier whose weights it starts from")
    ] = None,
    seed: options.Seed = 0,
    device: Annotated[str, typer.Option(help="cpu, or a GPU such as cuda")] = "cpu",
    debug: options.Debug = False,
) -> None:
    """Train a classifier by its recipe.

    After an interruption the same command resumes from the checkpoint beside the file.

    \b
    Examples:
      ridefense train-classifier mnist-cnn --dataset digits --epochs 60 --out digits-cnn.safetensors
      ridefense train-classifier cifar10-resnet18 --dataset cifar10 --out r18.safetensors
    """
    for option, given in (("attack", attack), ("method", method)):
        if given and adversarial is None:
            raise InputError(f"--{option} {given} is of --adversarial; give --adversarial EPS too")
    if (source is None) == (method == "cascade"):
        raise InputError(
            f"method is {method or 'replace'!r} and source {source!r}; give --source NAME with "
            "--method cascade, and with no other"
        )
    paths.check_target(out, ".safetensors")
    from ridefense import classifiers, datasets
    from ridefense.attacks import FGSM, PGD

    device = machine.device(device)
    variant: classifiers.AdversarialTraining | None = None
    if adversarial is not None:
        one_step = attack == "fgsm" or (attack is None and source is not None)
        attacker = (FGSM if one_step else PGD)(eps=adversarial, random_start=True)
        variant = classifiers.AdversarialTraining(attack=attacker)
        if method == "alp":
            variant = classifiers.LogitPairing(attack=attacker)
        if source is not None:
            variant = classifiers.Cascade(
                attack=attacker,
                iterated=PGD(eps=adversarial),
                source=classifiers.load(source).to(device),
            )
    learned, tested = datasets.load(dataset, "train"), datasets.load(dataset, "test")
    checkpoint = out.with_name(f"{out.name}.checkpoint")

    def progress(done: int, total: int, loss: float) -> None:
        of = epochs or classifiers.ARCHITECTURES[name].recipe.epochs
        epoch = 1 + (done - 1) * of // total
        move(f"training, epoch {epoch} of {of}", done, total, f"loss {loss:.3f}")

    with bar("steps") as move:
        trained = classifiers.train(
            name,
            learned,
            seed=seed,
            epochs=epochs,
            test=tested,
            adversarial=variant,
            start=None if start is None else classifiers.load(start, name),
            checkpoint=checkpoint,
            device=device,
            progress=progress,
        )
    classifiers.save(trained, out)
    checkpoint.unlink(missing_ok=True)
    info = trained.info
    say(f"trained on {learned.title}, train split: {learned.preparation}")
    say(f"tested on {tested.title}, test split: {tested.preparation}")
    say(f"wrote {out}: {info.correct} of {info.n} right on {info.tested_on}")
