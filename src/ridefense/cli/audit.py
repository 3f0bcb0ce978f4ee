"""ridefense audit"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ridefense import classifiers
from ridefense.audit import BUDGETS, CURVE, Audit, carry_out, failed
from ridefense.audit.plan import BROKEN, UNDEFENDED
from ridefense.cli import choices
from ridefense.cli.choices import EngineName
from ridefense.cli.console import bar
from ridefense.cli.evaluate import UNCHECKED
from ridefense.cli.report import show_audit

BESIDE = ("median:3", "tv-chambolle:0.1", "blur:1", "bit-depth:1")
"""Fixed filters that stand beside what is audited."""

_BY_DEFAULT = f"[{', '.join(BESIDE)}]"


class BudgetName(StrEnum):
    quick = "quick"
    small = "small"
    full = "full"


def audit(
    dataset: choices.Dataset = "digits",
    classifier: choices.ClassifierName = None,
    network: choices.Network = None,
    purifier: Annotated[
        str, typer.Option(help="what is audited: ride, jpeg:75, …; see list")
    ] = "ride",
    preset: Annotated[str, typer.Option(help="of an estimator's settings; see list")] = "fast",
    eps: choices.Radii = None,
    images: Annotated[int, typer.Option(min=1, help="drawn from the test split")] = 100,
    beside: Annotated[
        list[str] | None,
        typer.Option(help=f"another purifier, attacked as well; may be repeated  {_BY_DEFAULT}"),
    ] = None,
    hardened: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="an adversarially trained classifier, attacked as well; may be repeated  "
            "[those that ship for the data]",
        ),
    ] = None,
    budget: Annotated[BudgetName, typer.Option(help="attack steps and draws")] = BudgetName.small,
    engine: choices.Engine = EngineName.auto,
    device: choices.Device = None,
    workers: choices.WorkerCount = None,
    ray: choices.RayAddress = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="a folder a defence inside of it  [runs/audit]")
    ] = None,
) -> None:
    """Attack a defence with all of a budget that applies, and write a page that ends in a verdict.

    Beside it stand no defence, other purifiers, and adversarially trained classifiers. Cheap
    attacks come first. Interrupted or killed, the same command goes on where it stopped, and how
    many workers there are changes no number. Budget quick is for schedules of seconds a fit: it has
    the attacks that do most for their cost, and of the curve over ε its end. Exit code 3: a sanity
    check failed.

    \b
    Examples:
      ridefense audit --images 8 --eps 0.2
      ridefense audit --dataset mnist --preset paper --eps 0.1 --eps 0.2 --budget quick
      ridefense audit --dataset mnist --eps 0.3 --budget full --workers 4
      ridefense audit --dataset cifar10 --hardened r18-adv.safetensors
    """
    family = choices.family_of(dataset, network)
    name = classifier or family.classifier
    device = choices.device(device)
    folder = folder or Path("runs", "audit")
    declared = Audit(
        dataset=dataset,
        classifier=name,
        name=_folder(choices.slug(purifier, preset)),
        purifier=choices.purifier(purifier, preset, family.network, engine),
        radii=tuple(dict.fromkeys(eps or [family.eps])),
        budget=BUDGETS[budget],
        curve=CURVE if BUDGETS[budget].thorough else CURVE[-1:],
        beside={
            choices.slug(other, preset): choices.purifier(other, preset, family.network, engine)
            for other in beside or BESIDE
        },
        hardened=tuple(hardened or _shipped(family.classifier)),
        limit=images,
        batch=family.chunk(device),
        device=device,
    )
    with bar("rows") as move:
        carry_out(declared, folder, move, choices.workers(workers, ray))
    if any(failed(show_audit(folder).checks)):
        raise typer.Exit(UNCHECKED)


def _folder(slug: str) -> str:
    """Of what is audited: another than those of what always stands beside it."""
    return f"audited-{slug}" if slug in (UNDEFENDED, BROKEN) else slug


def _shipped(classifier: str) -> list[str]:
    """The adversarially trained classifiers of a kind that ship."""
    return [name for name in classifiers.names() if name.startswith(f"{classifier}-adv")]
