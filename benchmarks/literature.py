"""Defences of the literature that others published and others broke, beside the bare classifier.

    python benchmarks/literature.py [mnist] [cifar10] --out FOLDER
        [--dataset cifar10=NAME] [--classifier NAME ...] [--case NAME ...]

Resumable, like `ridefense reproduce`, whose machinery it uses. Writes FOLDER/literature/report.md;
docs/literature.md says what to make of it.
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ridefense.attacks import APGD, FGSM, PGD, margin
from ridefense.evaluate import Threat
from ridefense.experiments import (
    Cases,
    Experiment,
    ExperimentResults,
    Setup,
    carry_out,
    declare,
    gather,
)
from ridefense.experiments.page import compose as page_of
from ridefense.filters import Unchanged
from ridefense.gradients import Identity, Unrolled, best_gradient
from ridefense.pages import (
    NOTHING,
    Block,
    Cell,
    Column,
    Document,
    Table,
    number,
    share,
    write,
)
from ridefense.purifier import Purifier
from ridefense.results import AttackResult, DefenceResult, WorstCase
from ridefense.results.statistics import compare
from ridefense.rivals import (
    LID,
    SOAP,
    AntiAdversary,
    BitDepth,
    GuidedDenoiser,
    HedgeDefence,
    InputAdaptation,
    PerturbationRectifier,
    PixelDefend,
    Quilting,
)

IMAGES = 64


@dataclass(frozen=True)
class Field:
    """The classifiers of a data set, the defences in them, and how long attacks are.

    Attributes:
        radii: ℓ∞, pixels in [0, 1].
        defences: by classifier, cheapest first.
        transfer: steps of the attacks on the bare classifier.
        through: steps of APGD through a defence that draws nothing.
        further: by classifier the radii at which its costly defences are attacked by more, because
            the first attacks left a gain.
    """

    radii: tuple[float, ...]
    defences: dict[str, tuple[Purifier, ...]]
    transfer: int
    through: int
    further: dict[str, tuple[float, ...]] = field(default_factory=dict)


FIELDS = {
    "mnist": Field(
        radii=(0.1, 0.2, 0.3),
        defences={
            "mnist-cnn-adv0.2": (AntiAdversary(), HedgeDefence(0.2)),
            "mnist-cnn": (
                AntiAdversary(),
                HedgeDefence(0.1),
                PixelDefend(),
                Quilting(),
                GuidedDenoiser(),
                PerturbationRectifier(),
                LID(),
                BitDepth(1),  # no claim of the literature: what a threshold does to digits
            ),
            "mnist-cnn-soap": (SOAP(),),
            "mnist-cnn-adv0.3": (AntiAdversary(), HedgeDefence(0.3)),
        },
        transfer=40,
        through=20,
        further={"mnist-cnn": (0.1,), "mnist-cnn-soap": (0.1, 0.2)},
    ),
    "cifar10": Field(
        radii=(4 / 255, 8 / 255),
        defences={
            "cifar10-resnet20": (AntiAdversary(), HedgeDefence()),
            "cifar10-resnet20-adv0.031": (AntiAdversary(), HedgeDefence()),
        },
        transfer=20,
        through=10,
    ),
}

FOLDERS = {
    AntiAdversary: "anti-adversary",
    HedgeDefence: "hedge",
    SOAP: "soap",
    PixelDefend: "pixel-defend",
    Quilting: "quilting",
    GuidedDenoiser: "guided-denoiser",
    PerturbationRectifier: "rectifier",
    LID: "lid",
    BitDepth: "bit-depth",
}


def transfers(part: Field, eps: float) -> tuple[Threat, ...]:
    """Attacks that know the classifier alone: white box where there is no defence."""
    steps = part.transfer
    return (
        Threat(attack=PGD(eps=eps, steps=steps)),
        Threat(attack=APGD(eps=eps, steps=steps, loss=margin)),
    )


def through(part: Field, classifier: str, purifier: Purifier, eps: float) -> Iterator[Threat]:
    """Attacks on the defended classifier, the defence taken as the identity or differentiated."""
    if isinstance(purifier, InputAdaptation):
        yield from _through_a_movement(part, classifier, purifier, eps)
        return
    yield Threat(attack=FGSM(eps=eps))  # its transfer, which the authors of these defences used
    gradient = best_gradient(purifier)
    yield Threat(attack=PGD(eps=eps), gradient=gradient)
    if purifier.is_randomised:
        yield Threat(attack=PGD(eps=eps, steps=20, eot=3, loss=margin), gradient=gradient)
    else:
        yield Threat(attack=APGD(eps=eps, steps=part.through, loss=margin), gradient=gradient)


def _through_a_movement(
    part: Field, classifier: str, purifier: InputAdaptation, eps: float
) -> Iterator[Threat]:
    further = eps in part.further.get(classifier, ())
    yield Threat(attack=PGD(eps=eps), gradient=Identity())
    if not purifier.is_randomised:
        apgd: APGD = APGD(eps=eps, steps=part.through, loss=margin)
        yield Threat(attack=apgd, gradient=Identity())
    elif further:
        averaged: PGD = PGD(eps=eps, steps=20, eot=3, loss=margin)
        yield Threat(attack=averaged, gradient=Identity())
    if further or isinstance(purifier, AntiAdversary):
        yield Threat(attack=PGD(eps=eps), gradient=Unrolled())


def cases(setup: Setup, data: tuple[str, ...] = tuple(FIELDS), only: tuple[str, ...] = ()) -> Cases:
    """Every classifier by itself, then with each of its defences in it."""
    found: Cases = {}
    for name in data:
        part = FIELDS[name]
        for classifier, defences in part.defences.items():
            if only and classifier not in only:
                continue
            declared = functools.partial(
                setup.evaluation,
                name,
                images=IMAGES,
                batch=IMAGES,
                draws=5,
                classifier=classifier,
                rounded=False,
            )
            alone = [threat for eps in part.radii for threat in transfers(part, eps)]
            found[f"{classifier}-none"] = declared(Unchanged(), tuple(alone))
            for purifier in defences:
                more = [
                    threat
                    for eps in part.radii
                    for threat in through(part, classifier, purifier, eps)
                ]
                folder = f"{classifier}-{FOLDERS[type(purifier)]}"
                found[folder] = declared(purifier, (*alone, *more))
    return found


# --- The table ------------------------------------------------------------------------------------

Kind = Callable[[AttackResult], bool]


def is_transfer(attack: AttackResult) -> bool:
    """Whether the attacker does not see the defence."""
    return attack.threat.gradient is None


def takes_as_constant(attack: AttackResult) -> bool:
    """Whether the attacker takes the defence as the identity (BPDA)."""
    return (attack.threat.gradient or {}).get("type") == "Identity"


def is_unrolled(attack: AttackResult) -> bool:
    """Whether the attacker differentiates the defence."""
    return (attack.threat.gradient or {}).get("type") == "Unrolled"


OWN: dict[str, Kind] = {"AntiAdversary": takes_as_constant}
"""The attacks of a defence's own evaluation, by its type, where they were no transfers."""


def worst(defence: DefenceResult, eps: float, kind: Kind) -> WorstCase | None:
    """Over the finished attacks of one kind and radius; None where there is none."""
    found = tuple(attack for attack in defence.at("Linf", eps) if kind(attack))
    return WorstCase(defence, found) if found else None


COLUMNS: dict[str, Kind] = {
    "Transferred": is_transfer,
    "As the identity": takes_as_constant,
    "Differentiated": is_unrolled,
}


def compose(results: ExperimentResults) -> Iterator[Block]:
    """One table, with a row for each defence, classifier and radius that is finished."""
    rows = [
        _row(defence, static, eps)
        for defence in results.cases.values()
        for static in [results.cases.get(f"{defence.classifier}-none")]
        if static and not defence.is_undefended
        for _, eps in defence.balls
        if static.worst_case("Linf", eps)
    ]
    yield Table(
        "What the attacks leave",
        (
            "Classifier",
            "Defence",
            Column("ε", "number"),
            Column("n", "number"),
            Column("Clean", "interval"),
            Column("Classifier alone", "interval"),
            Column("As published", "interval"),
            *(Column(title, "interval") for title in COLUMNS),
            Column("Worst case", "interval"),
            Column("Gain as published", "number"),
            Column("Gain in the worst case", "number"),
        ),
        rows,
        "Shares of images that keep their class, with 95% intervals. As published: the attacks of "
        "the defence's own evaluation. Transferred: the attacks that the classifier alone is "
        "under. A gain is in points over the classifier alone; p is that of no gain on the same "
        "images.",
    )


def _row(defence: DefenceResult, static: DefenceResult, eps: float) -> tuple[Cell | str, ...]:
    alone, everything = static.worst_case("Linf", eps), defence.worst_case("Linf", eps)
    if alone is None or everything is None:
        raise ValueError(f"{defence.name} has no finished attack of {eps}")
    own = worst(defence, eps, OWN.get(str(defence.purifier["type"]), is_transfer))
    kinds = [worst(defence, eps, kind) for kind in COLUMNS.values()]
    return (
        defence.classifier,
        defence.short_title,
        number(eps, f"{round(eps * 255)}/255" if "cifar" in defence.classifier else None),
        number(alone.accuracy.n),
        share(defence.clean.accuracy),
        share(alone.accuracy),
        *(NOTHING if case is None else share(case.accuracy) for case in (own, *kinds)),
        share(everything.accuracy),
        NOTHING if own is None else _gain(own, alone),
        _gain(everything, alone),
    )


def _gain(defended: WorstCase, alone: WorstCase) -> Cell:
    points = 100 * (defended.accuracy.fraction - alone.accuracy.fraction)
    p = compare(defended.survival, alone.survival).p
    return number(points, f"{points:+.1f}", f"p {p:.2g}")


def page(made: Experiment, results: ExperimentResults) -> Document:
    """The page of the runs; it belongs to no index."""
    return replace(page_of(made, results), links=())


def experiment(data: tuple[str, ...], only: tuple[str, ...]) -> Experiment:
    return Experiment(
        name="literature",
        source="Literature",
        title="Defences at test time that others published and others broke",
        text="Each defence stands in the classifier that it names, and the same attacks are run on "
        "the classifier alone.",
        cases=functools.partial(cases, data=data, only=only),
        compose=compose,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", default=[*FIELDS], help=" ".join(FIELDS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataset", action="append", default=[], help="as cifar10=NAME")
    parser.add_argument("--classifier", action="append", default=[], help="these alone")
    parser.add_argument("--case", action="append", default=[], help="run these of them alone")
    given = parser.parse_args()
    chosen = dict(text.split("=", 1) for text in given.dataset)
    made = experiment(tuple(given.data), tuple(given.classifier))
    declared = declare(made, Setup.at("laptop", chosen), given.out)
    for name, evaluation in declared.items():
        if given.case and name not in given.case:
            continue
        carry_out({name: evaluation}, given.out)
        print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        write(page(made, gather(made, given.out)), given.out / made.name, "report")


if __name__ == "__main__":
    main()
