"""The figures that show images: trajectories of one fit (2 and 6) and grids (10 to 12)."""

import textwrap
from collections.abc import Callable, Iterator
from functools import partial

import torch

from ridefense.attacks import PGD
from ridefense.evaluate import Row, RunFolder, Threat
from ridefense.experiments.ablation import ablation_data, attack_of, histories, history
from ridefense.experiments.experiment import Cases, Experiment, ExperimentResults, short_title
from ridefense.experiments.scales import DataName, Setup
from ridefense.experiments.tables import GRAY, ride_photographs
from ridefense.experiments.whitebox import RADII
from ridefense.filters import Median, TVChambolle
from ridefense.gradients import Identity
from ridefense.pages import Block, Figure
from ridefense.pages.drawing import Point, Shown, curves, grid
from ridefense.purifier import Purifier

_CLASSES = 5  # of the highest scores, whose curves are drawn
_MOMENTS = 8  # reconstructions that are shown
_LETTERS = 14  # of a caption's line
_COLUMNS = 6  # images of a grid, then as many failures
STEPS = (1, 4, 10)
"""Of the attack, in Figures 10 to 12."""


def _trajectories(setup: Setup) -> Cases:
    """The paper's are of photographs at the full schedule; a quick one and a digit are beside."""
    fast = setup.estimator("imagenet", "fast")
    return {
        "imagenet-ride-paper": ride_photographs(setup)["imagenet-ride-paper"],
        "imagenet-trajectory-fast": setup.evaluation(
            "imagenet", fast, GRAY[:1], images=2, batch=1, every=20
        ),
        "fit-ride": history(setup, setup.estimator(ablation_data(setup))),
    }


def _trajectory(index: int) -> Callable[[ExperimentResults], Iterator[Block]]:
    """Of the image at this place in each case that has so many."""

    def compose(results: ExperimentResults) -> Iterator[Block]:
        for name, case in results.cases.items():
            label = attack_of(results, name)
            rows = [row for row, _ in histories(results.rows(name, label))]
            if len(rows) > index and case.run.has_images:  # published records have none
                yield from _of_one(name, case.run, rows[index], short_title(case, label))

    return compose


def _of_one(name: str, run: RunFolder, row: Row, threat: str) -> Iterator[Block]:
    kept, classes = run.images(row), run.settings["dataset"]["classes"]
    past = row.history
    assert past is not None  # `histories` gives rows that have one
    title = f"{name}, image {row.image}"
    likeliest = kept["scores"].max(dim=0).values.topk(_CLASSES).indices.tolist()
    chosen = dict.fromkeys([row.label, *likeliest])
    scores = {
        f"{_name(classes, k)}{' (true)' if k == row.label else ''}": [
            Point.at(step, float(s))
            for step, s in zip(past.steps, kept["scores"][:, k], strict=True)
        ]
        for k in chosen
    }
    yield Figure(
        f"Class scores, {title}",
        partial(curves, {"": scores}, "iterations", "probability on x_est"),
        f"Under {threat}.",
    )
    distances = {
        label: [Point.at(s, 255 * d) for s, d in zip(past.steps, values, strict=True)]
        for label, values in (
            ("dist2gt, to the clean image", past.purified_clean),
            ("dist2adv, to the attacked image", past.purified_final),
        )
    }
    yield Figure(
        f"Distances of the reconstruction, {title}",
        partial(curves, {"": distances}, "iterations", "mean absolute distance, 0..255"),
    )
    places = torch.linspace(0, len(past.steps) - 1, min(_MOMENTS, len(past.steps))).round().int()
    shown = [Shown(kept["final"], "attacked", row.bare != row.label)]
    for at in dict.fromkeys(places.tolist()):
        caption = f"step {past.steps[at]}\np(true) {past.scores[at]:.2f}"
        wrong = past.predictions[at] != row.label
        shown.append(Shown(kept["history"][at] / 255, caption, wrong))
    yield Figure(
        f"Reconstructions, {title}",
        partial(grid, {"": shown}),
        f"Above each the probability of its true class, {_name(classes, row.label)}; red where the "
        "classifier is wrong.",
        raster=True,
    )


def _name(classes: list[str], k: int) -> str:
    """A class's first name, and its number where another has that name too."""
    if not 0 <= k < len(classes):
        return str(k)
    first = [name.split(",")[0] for name in classes]
    return first[k] if first.count(first[k]) == 1 else f"{first[k]} ({k})"


def _radius(data: DataName) -> float:
    return 0.1 if data == "mnist" else RADII[data][-1]


def _grids(data: DataName) -> Callable[[Setup], Cases]:
    """BPDA on each of three defences, after so many steps; RIDE at `fast` but on digits."""

    def cases(setup: Setup) -> Cases:
        eps = _radius(data)
        preset = setup.pick(
            smoke="paper", laptop="paper" if data == "mnist" else "fast", paper="paper"
        )
        purifiers: dict[str, Purifier] = {
            "median-3": Median(3),
            "tv-chambolle-0.1": TVChambolle(0.1),
            f"ride-{preset}": setup.estimator(data, preset),
        }
        threats = tuple(
            Threat(attack=PGD(eps=eps, step_size=eps / 5, steps=n), gradient=Identity())
            for n in STEPS
        )
        n = setup.pick(smoke=2, laptop=9, paper=100)
        return {
            f"{data}-grid-{name}": setup.evaluation(data, purifier, threats, images=n)
            for name, purifier in purifiers.items()
        }

    return cases


def _grid(results: ExperimentResults) -> Iterator[Block]:
    if not all(case.run.has_images for case in results.cases.values()):
        return
    for steps, labels in zip(STEPS, _by_steps(results), strict=True):
        if not (chosen := _chosen(results, labels)):
            continue
        name, case = next(iter(results.cases.items()))  # they all have the same images
        clean = {row.image: row for row in results.rows(name)}
        rows = {"clean": [_shown(case.run, clean.get(image)) for image in chosen]}
        for name, case in results.cases.items():
            found = {row.image: row for row in results.rows(name, labels[name])}
            title = name.partition("-grid-")[2]
            for kind in ("adversarial", "defended"):
                rows[f"{title}\n{kind}"] = [
                    _shown(case.run, found.get(image), kind) for image in chosen
                ]
        word = "step" if steps == 1 else "steps"
        yield Figure(
            f"After {steps} {word} of the attack",
            partial(grid, rows),
            "Above a clean image its true class, above an adversarial one the bare classifier's "
            "prediction, above a defended one the defended classifier's; red where it is wrong. "
            "The first images, then failures of RIDE among the others, if there are any.",
            raster=True,
        )


def _by_steps(results: ExperimentResults) -> list[dict[str, str]]:
    """For each number of steps the label of its attack in each case, in the order declared."""
    return [
        {name: labels[i] for name, labels in results.planned.items()} for i in range(len(STEPS))
    ]


def _chosen(results: ExperimentResults, labels: dict[str, str]) -> list[int]:
    ride = next((name for name in results.cases if "ride" in name), "")
    rows = results.rows(ride, labels.get(ride, ""))
    failed = [row.image for row in rows[_COLUMNS:] if row.predictions[0] != row.label]
    return [row.image for row in rows[:_COLUMNS]] + failed[: _COLUMNS // 2]


def _shown(run: RunFolder, row: Row | None, kind: str = "clean") -> Shown | None:
    """An image under its class, or under what it is taken for; None where there is none."""
    if row is None:
        return None
    told = {"clean": row.label, "adversarial": row.bare, "defended": row.predictions[0]}[kind]
    image = run.images(row)["purified" if kind == "defended" else "final"]
    return Shown(image, _caption(run.settings["dataset"]["classes"], told), told != row.label)


def _caption(classes: list[str], k: int) -> str:
    """A class's name in the width of a small image."""
    return textwrap.fill(_name(classes, k), _LETTERS, max_lines=2, placeholder="…")


def _trajectory_figure(number: int, index: int) -> Experiment:
    return Experiment(
        name=f"figure-{number}",
        source=f"Figure {number}",
        title=f"{'One' if index == 0 else 'Another'} image's trajectory: class scores, distances, "
        "reconstructions",
        text="RIDE on an attacked image (gray box), by the number of gradient steps: the scores of "
        "the likeliest classes on the reconstruction x_est, its distances to the clean and to the "
        "attacked image, and what it looks like.",
        cases=_trajectories,
        compose=_trajectory(index),
    )


def _grid_figure(number: int, data: DataName, title: str) -> Experiment:
    return Experiment(
        name=f"figure-{number}",
        source=f"Figure {number}",
        title=f"{title}: adversarial and defended images, failures included",
        text=f"BPDA, ℓ∞ {_radius(data):g}, after 1, 4 and 10 steps of ε/5 on the median filter, "
        "total variation and RIDE, each attacked by itself.",
        cases=_grids(data),
        compose=_grid,
    )


FIGURE_2 = _trajectory_figure(2, 0)
FIGURE_6 = _trajectory_figure(6, 1)
FIGURE_10 = _grid_figure(10, "mnist", "MNIST")
FIGURE_11 = _grid_figure(11, "cifar10", "CIFAR-10")
FIGURE_12 = _grid_figure(12, "imagenet", "ImageNet")
