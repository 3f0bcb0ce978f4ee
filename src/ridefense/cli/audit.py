"""ridefense audit"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from ridefense.cli import defaults, machine, options, paths
from ridefense.cli.calibrate import calibrate
from ridefense.cli.console import bar, say
from ridefense.cli.evaluate import UNCHECKED
from ridefense.errors import InputError
from ridefense.names import BudgetName

BESIDE = ("median:3", "tv-chambolle:0.1", "blur:1", "bit-depth:1", "jpeg:20")
"""Fixed filters that are attacked too, for comparison."""


def audit(
    dataset: options.Dataset = "digits",
    classifier: options.Classifier = None,
    network: options.Network = None,
    purifier: Annotated[str | None, options.purifier("what is audited; see list  [ride]")] = None,
    defended: Annotated[
        str | None,
        options.defended("what is audited: a model of yours that is a defence by itself"),
    ] = None,
    static: options.Static = None,
    preset: options.Preset = None,
    norm: options.Norms = None,
    eps: options.Balls = None,
    beyond: Annotated[
        bool,
        typer.Option("--beyond-norms", help="also attack by low frequencies and by moving pixels"),
    ] = False,
    images: options.Images = 100,
    beside: Annotated[
        list[str] | None,
        options.purifier(
            f"another purifier for comparison; may be repeated  [{', '.join(BESIDE)}]"
        ),
    ] = None,
    hardened: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="an adversarially trained classifier for comparison; may be repeated  "
            "[those that ship for the data]",
        ),
    ] = None,
    budget: Annotated[
        BudgetName, options.one_of("budget", get_args(BudgetName), "attack steps and draws")
    ] = "small",
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="run the attacks that fit into this time, cheapest first"),
    ] = None,
    engine: options.Engine = "auto",
    device: options.Device = None,
    workers: options.WorkerCount = None,
    ray: options.RayAddress = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="folder with a run folder for each defence  [runs/audit]"),
    ] = None,
    calibrated: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="audit defences whose robustness is known, on digits: measures the audit itself",
        ),
    ] = False,
    sample: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|KIND", help="with --calibrate, one of them; may be repeated  [all]"
        ),
    ] = None,
    autoattacked: Annotated[
        int,
        typer.Option(
            "--autoattack-images",
            min=0,
            help="with --calibrate, images on which AutoAttack alone is run",
        ),
    ] = 16,
    debug: options.Debug = False,
) -> None:
    """Attack a defence and write a verdict.

    The defence is a purifier, or a model that is a defence by itself (--defended).

    It is attacked with every attack of a budget that applies. For comparison the same attacks are
    run on no defence, other purifiers and adversarially trained classifiers. Cheap attacks come
    first. After an interruption the same command resumes. The number of workers never changes a
    result. Budget quick is for purifiers that take seconds an image: it has the attacks that gain
    most for their cost, and only the largest ε of the curve. Exit code 3: a sanity check failed.

    \b
    Examples:
      ridefense audit --images 8 --eps 0.2
      ridefense audit --dataset mnist --preset paper --eps 0.1 --eps 0.2 --budget quick
      ridefense audit --dataset mnist --eps 0.3 --budget full --workers 4
      ridefense audit --dataset cifar10 --hardened r18-adv.safetensors
      ridefense audit --purifier lab:Denoiser --images 8 --minutes 10
      ridefense audit --purifier median:3 --norm l2 --eps 1.5 --eps linf:0.1 --beyond-norms
      ridefense audit --defended lab:ensemble --static lab:plain --images 8
      ridefense audit --calibrate --eps 0.3 --images 64 --sample decisions --sample "no gradient"
    """
    norms = list(dict.fromkeys(norm or ["linf"]))
    radii = options.balls(eps or (), norms)
    if calibrated:
        calibrate(
            eps=[radius for each, radius in radii if each == "linf"] or [0.3],
            budget=budget,
            images=images,
            names=sample or [],
            autoattacked=autoattacked,
            workers=workers,
            ray=ray,
            folder=folder or Path("runs", "calibration"),
        )
        return
    if purifier is not None and defended is not None:
        raise InputError(
            f"purifier is {purifier!r} and defended {defended!r}; one audit has one subject"
        )
    audited = [] if defended else [purifier or "ride"]
    others = list(dict.fromkeys(beside or BESIDE))
    paths.check_preset(preset, [*audited, *others])
    from ridefense.audit import BUDGETS, CURVE, Audit, carry_out, failed
    from ridefense.cli.report import show_audit

    own = defaults.of(dataset, network)
    device = machine.device(device)
    folder = folder or Path("runs", "audit")
    ((name, defence),) = options.defences(
        audited, [defended] if defended else [], preset, own.network, engine
    ).items()
    declared = Audit(
        dataset=dataset,
        classifier=options.static(static, classifier, defended, own.classifier),
        name=_folder(name),
        purifier=defence,
        **_by_norm(radii or [(each, own.radius(each)) for each in norms], beyond),
        budget=BUDGETS[budget],
        curve=CURVE if BUDGETS[budget].thorough else CURVE[-1:],
        beside=options.defences(others, [], preset, own.network, engine),
        hardened=tuple(hardened or _shipped(own.classifier)),
        limit=images,
        batch=own.batch_on(device),
        device=device,
    )
    with bar("rows") as move:
        carry_out(declared, folder, move, machine.workers(workers, ray, device), minutes, say)
    if any(failed(show_audit(folder).checks)):
        raise typer.Exit(UNCHECKED)


def _by_norm(balls: Sequence[tuple[str, float]], beyond: bool) -> dict[str, Any]:
    """The radii of an audit as it is declared."""
    radii = {norm: tuple(eps for own, eps in balls if own == norm) for norm in options.NORMS}
    if radii["pixels"]:
        raise InputError(
            f"eps is pixels:{radii['pixels'][0]:g}, which no attack of the audit has; use "
            "ridefense evaluate --attack one-pixel"
        )
    flows = {"flows": radii["flow"]} if radii["flow"] else {}
    declared = {"radii": radii["linf"], "l2_radii": radii["l2"], **flows}
    return declared | {"beyond": beyond or bool(flows)}


def _folder(name: str) -> str:
    """Of what is audited: another than those of what is always attacked for comparison."""
    from ridefense.audit.plan import BROKEN, UNDEFENDED

    return f"audited-{name}" if name in (UNDEFENDED, BROKEN) else name


def _shipped(classifier: str) -> list[str]:
    """The adversarially trained classifiers of a kind that ship."""
    from ridefense import classifiers

    return [name for name in classifiers.names() if name.startswith(f"{classifier}-adv")]
