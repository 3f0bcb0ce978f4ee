"""The ablation: accuracy over the iterations of a fit (Figures 4, 5, 8 and 9)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ridefense.attacks import FGSM, PGD
from ridefense.estimators import DAE, DIP, IDIP, RIDE, Estimator
from ridefense.evaluate import CLEAN, Evaluation, History, Row, Threat
from ridefense.experiments.experiment import Cases, Experiment, ExperimentResults
from ridefense.experiments.scales import DataName, Setup
from ridefense.images import IMAGENET, MNIST
from ridefense.networks import NETWORKS
from ridefense.pages import Block, Column, Figure, Table, number, share
from ridefense.pages.drawing import Curve, Point, curves
from ridefense.results import Accuracy

TEXT = (
    "Gray box: the attacker knows the classifier alone, so nothing here is a robustness claim. The "
    "paper's ablation is on ImageNet under FGSM of 0.015; at scale laptop it is on MNIST under PGD "
    "of ten steps at ε 0.2. Accuracy is that of the classifier on x_est after the given number of "
    "gradient steps."
)

BANDS = "Bands: 95% intervals."


def ablation_data(setup: Setup) -> DataName:
    """The data set of the ablation."""
    return setup.pick(smoke="mnist", laptop="mnist", paper="imagenet")


def history(setup: Setup, purifier: Estimator, images: int = 50) -> Evaluation:
    """An evaluation that records the history of each fit, on clean and attacked images."""
    attack = setup.pick(smoke=PGD(eps=0.2), laptop=PGD(eps=0.2), paper=FGSM(eps=0.015))
    return setup.evaluation(
        ablation_data(setup),
        purifier,
        (Threat(attack=attack),),
        images=setup.pick(smoke=2, laptop=images, paper=2000),
        every=setup.pick(smoke=1, laptop=250, paper=500),
    )


def _ride(setup: Setup, **changes: Any) -> Evaluation:
    return history(setup, setup.estimator(ablation_data(setup), **changes))


def kinds(setup: Setup, *estimators: type[Estimator], dropout: tuple[bool, ...] = (True,)) -> Cases:
    """The histories of estimators, with dropout and without."""
    data = ablation_data(setup)
    dry: dict[str, Any] = {"network": replace(NETWORKS[data], dropout=0.0)}
    return {
        f"fit-{kind.__name__.lower()}{'' if wet else '-no-dropout'}": history(
            setup, setup.estimator(data, kind=kind, **({} if wet else dry))
        )
        for kind in estimators
        for wet in dropout
    }


def _samples(setup: Setup) -> Cases:
    """n of Figure 5b; 1 is the default. A fit costs n times as much, so there are fewer images."""
    more = {n: setup.estimator(ablation_data(setup), batch=n) for n in (2, 4, 8)}
    others = {f"fit-ride-n-{n}": history(setup, ride, images=10) for n, ride in more.items()}
    return {"fit-ride": _ride(setup), **others}


def _alphas(setup: Setup) -> Cases:
    others = {f"fit-ride-alpha-{a:g}": _ride(setup, alpha=a) for a in (0.7, 0.8, 0.95, 1.0)}
    return {"fit-ride": _ride(setup), **others}


def _sigmas(setup: Setup) -> Cases:
    """σ in normalised pixels; 0.5 is the default."""
    space = MNIST if ablation_data(setup) == "mnist" else IMAGENET
    others = {
        f"fit-ride-sigma-{s:g}": _ride(setup, sigma=space.sigma(s)) for s in (0.0, 0.25, 1.0, 2.0)
    }
    return {"fit-ride": _ride(setup), **others}


def _masks(setup: Setup) -> Cases:
    return {
        "fit-ride": _ride(setup),
        "fit-ride-mask-0.8": _ride(setup, mask_ratio=0.8),
        "fit-ride-fixed-target": _ride(setup, target_noise="none"),
        "fit-ride-mask-0.8-fixed-target": _ride(setup, mask_ratio=0.8, target_noise="none"),
    }


def _all_kinds(setup: Setup) -> Cases:
    return kinds(setup, DIP, IDIP, DAE, RIDE, dropout=(True, False))


NAMES = {
    "fit-dip": "DIP",
    "fit-idip": "I-DIP",
    "fit-dae": "DAE",
    "fit-ride": "RIDE",
    "fit-dip-no-dropout": "DIP, no dropout",
    "fit-idip-no-dropout": "I-DIP, no dropout",
    "fit-dae-no-dropout": "DAE, no dropout",
    "fit-ride-no-dropout": "RIDE, no dropout",
}


def attack_of(results: ExperimentResults, name: str) -> str:
    """The label of a case's one attack."""
    return next(iter(results.labels(name)), CLEAN)


def histories(rows: list[Row]) -> list[tuple[Row, History]]:
    """The rows that have a history, with it."""
    return [(row, row.history) for row in rows if row.history]


def accuracy_curve(rows: list[Row]) -> Curve:
    """Accuracy of x_est over the steps; an image whose fit stopped early keeps its last value."""
    found = histories(rows)
    steps = max((history.steps for _, history in found), key=len, default=())
    points = []
    for at, step in enumerate(steps):
        right = (h.predictions[min(at, len(h.steps) - 1)] == row.label for row, h in found)
        points.append(Point.percent(step, Accuracy.of(right)))
    return points


def distance_curve(rows: list[Row]) -> Curve:
    """Mean absolute distance of x_est to the clean image, 0..255, over images."""
    found = [history for _, history in histories(rows)]
    steps = max((history.steps for history in found), key=len, default=())
    curve = []
    for at, step in enumerate(steps):
        values = [255 * h.purified_clean[min(at, len(h.steps) - 1)] for h in found]
        curve.append(Point.at(step, sum(values) / len(values)))
    return curve


def _over_iterations(
    results: ExperimentResults, names: Mapping[str, str], attacked: bool = True
) -> dict[str, Curve]:
    rows = {
        title: results.rows(name, attack_of(results, name) if attacked else CLEAN)
        for name, title in names.items()
    }
    return {title: accuracy_curve(found) for title, found in rows.items() if histories(found)}


def _ends(results: ExperimentResults, names: Mapping[str, str]) -> Table:
    """Accuracy at the end, and the best on the way."""
    rows = []
    for name, title in names.items():
        for what, attack in (("clean", CLEAN), ("attacked", attack_of(results, name))):
            found = results.rows(name, attack)
            curve = accuracy_curve(found)
            if curve:
                ends = Accuracy.of(h.predictions[-1] == row.label for row, h in histories(found))
                best = max(curve, key=lambda point: point.y)
                highest = number(best.y, f"{best.y:.1f}% at step {best.x}")
                rows.append((title, what, number(ends.n), share(ends), highest))
    columns = (
        "Estimator",
        "Images",
        Column("n", "number"),
        Column("Accuracy", "interval"),
        Column("Best on the way", "number"),
    )
    return Table("At the end", columns, rows)


def _accuracies(
    title: str, names: Mapping[str, str]
) -> Callable[[ExperimentResults], Iterator[Block]]:
    """The panel of Figure 5: accuracy on attacked images over iterations."""

    def compose(results: ExperimentResults) -> Iterator[Block]:
        drawn = _over_iterations(results, names)
        if drawn:
            yield _over({"": drawn}, title, "accuracy on attacked images, %", BANDS)
        yield _ends(results, names)

    return compose


def _figure_8(results: ExperimentResults) -> Iterator[Block]:
    panels = {
        "attacked": _over_iterations(results, NAMES),
        "clean": _over_iterations(results, NAMES, attacked=False),
    }
    if panels["attacked"]:
        title = "Accuracy over iterations, with and without dropout"
        yield _over(panels, title, "accuracy, %", BANDS)
    yield _ends(results, NAMES)


def _figure_4(results: ExperimentResults) -> Iterator[Block]:
    pairs = {"DIP": ("fit-dip", "fit-idip"), "DAE": ("fit-dae", "fit-ride")}
    for what, curve, label, text in (
        ("Accuracy", accuracy_curve, "accuracy on attacked images, %", BANDS),
        ("Distance to the clean image", distance_curve, "mean absolute distance, 0..255", ""),
    ):
        panels = {
            title: {
                f"{NAMES[name]}: {'with' if outer else 'without'} outer updates": curve(found)
                for outer, name in enumerate(names)
                if histories(found := results.rows(name, attack_of(results, name)))
            }
            for title, names in pairs.items()
        }
        if any(panels.values()):
            yield _over(panels, f"{what} with and without outer updates", label, text)


def _over(panels: Mapping[str, Mapping[str, Curve]], title: str, y: str, text: str) -> Figure:
    """Curves over iterations; those without dropout are dashed."""
    dashed = [name for drawn in panels.values() for name in drawn if "no dropout" in name]
    return Figure(title, lambda: curves(panels, "iterations", y, dashed=dashed), text)


def _figure(
    letter: str, title: str, cases: Callable[[Setup], Cases], names: Mapping[str, str]
) -> Experiment:
    return Experiment(
        name=f"figure-{letter}",
        source=f"Figure {letter}",
        title=title,
        text=TEXT,
        cases=cases,
        compose=_accuracies(title, names),
    )


FIGURE_4 = Experiment(
    name="figure-4",
    source="Figure 4",
    title="Convergence with and without the outer updates",
    text=TEXT,
    cases=lambda setup: kinds(setup, DIP, IDIP, DAE, RIDE),
    compose=_figure_4,
)
FIGURE_5A = _figure("5a", "DIP, I-DIP, DAE and RIDE", _all_kinds, NAMES)
FIGURE_5B = _figure(
    "5b",
    "Noisy inputs a step, n",
    _samples,
    {"fit-ride": "n = 1", **{f"fit-ride-n-{n}": f"n = {n}" for n in (2, 4, 8)}},
)
FIGURE_5C = _figure(
    "5c",
    "Weight of the old estimate, α",
    _alphas,
    {
        "fit-ride-alpha-0.7": "α = 0.7",
        "fit-ride-alpha-0.8": "α = 0.8",
        "fit-ride": "α = 0.9",
        "fit-ride-alpha-0.95": "α = 0.95",
        "fit-ride-alpha-1": "α = 1, suppression alone",
    },
)
FIGURE_5D = _figure(
    "5d",
    "Standard deviation of the noise, σ in normalised pixels",
    _sigmas,
    {
        "fit-ride-sigma-0": "σ = 0",
        "fit-ride-sigma-0.25": "σ = 0.25",
        "fit-ride": "σ = 0.5",
        "fit-ride-sigma-1": "σ = 1",
        "fit-ride-sigma-2": "σ = 2",
    },
)
FIGURE_8 = Experiment(
    name="figure-8",
    source="Figure 8",
    title="Accuracy over iterations, with and without dropout",
    text=TEXT,
    cases=_all_kinds,
    compose=_figure_8,
)
FIGURE_9 = _figure(
    "9",
    "Loss mask and target",
    _masks,
    {
        "fit-ride": "mask 0.9, noisy target",
        "fit-ride-mask-0.8": "mask 0.8, noisy target",
        "fit-ride-fixed-target": "mask 0.9, fixed target",
        "fit-ride-mask-0.8-fixed-target": "mask 0.8, fixed target",
    },
)
