"""Figure 7: distances between adversarial, clean and defended images under BPDA."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ridefense.attacks import PGD
from ridefense.attacks.descent import Ascent
from ridefense.attacks.norms import project
from ridefense.defended import Defended
from ridefense.errors import InputError
from ridefense.estimators import Estimator
from ridefense.evaluate import Evaluation, Row, Threat
from ridefense.experiments.experiment import Cases, Experiment, ExperimentResults
from ridefense.experiments.scales import DataName, Setup
from ridefense.experiments.whitebox import bpda
from ridefense.filters import Median, TVChambolle, Unchanged
from ridefense.gradients import Identity
from ridefense.pages import Block, Cell, Column, Figure, Table, number, share
from ridefense.pages.drawing import distributions
from ridefense.results import Accuracy

EPS = 0.1
CIFAR10_EPS = 0.05


@dataclass(frozen=True, kw_only=True)
class OverwrittenPGD(PGD):
    """BPDA against a defence that overwrites its input: an error, not an attack.

    Before every step the attacker's image is replaced by x^(T), the defence's running estimate, as
    a defence that works in place does. So the attacker moves an image that is partly defended.
    """

    def climb(self, run: Ascent, images: Tensor) -> Tensor:
        objective = run.objective
        model = objective.model
        purifier = model.purifier if isinstance(model, Defended) else None
        if not isinstance(model, Defended) or not isinstance(purifier, Estimator):
            raise InputError(f"{type(model).__name__} updates no image; use an estimator")
        for step in range(self.steps):
            seed = objective.seed_of((run.index, step))
            found = purifier.estimate(images, ids=objective.ids, seed=seed)
            estimate = found.value.requires_grad_()
            loss = cross_entropy(model.classifier(estimate), objective.labels)
            (gradient,) = torch.autograd.grad(loss, estimate)
            moved = found.x[-1] + self.step_length * run.norm.steepest(gradient)
            images = project(run.norm, moved, run.centre, self.eps)
        return images


def _both(eps: float) -> tuple[Threat, Threat]:
    """The attack as it should be, and as an overwriting defence makes it."""
    (right,) = bpda(eps)
    return right, Threat(attack=OverwrittenPGD(eps=eps), gradient=Identity())


def _cases(setup: Setup) -> Cases:
    """The filters' cases are Table 2's; CIFAR-10 is there for what Table 2 says of it."""
    many = setup.pick(smoke=2, laptop=1000, paper=10_000)
    filters = {"none": Unchanged(), "median-3": Median(3), "tv-chambolle-0.1": TVChambolle(0.1)}
    fitted: dict[str, tuple[DataName, str, float, int]] = {
        "mnist-distances-ride": ("mnist", "paper", EPS, 25),
        "cifar10-distances-ride": ("cifar10", "fast", CIFAR10_EPS, 100),
        "cifar10-distances-ride-paper": ("cifar10", "paper", CIFAR10_EPS, 8),
    }
    return {
        **{
            f"mnist-bpda-{name}": setup.evaluation("mnist", purifier, bpda(EPS), images=many)
            for name, purifier in filters.items()
        },
        **{
            name: _fitted(setup, data, preset, eps, setup.pick(smoke=2, laptop=few, paper=10_000))
            for name, (data, preset, eps, few) in fitted.items()
        },
    }


def _fitted(setup: Setup, data: DataName, preset: str, eps: float, images: int) -> Evaluation:
    estimator = setup.estimator(data, preset)
    return setup.evaluation(data, estimator, _both(eps), images=images, every=estimator.steps)


Columns = tuple[dict[str, list[float]], Cell, Cell]
"""The three distances, and the accuracies of defended and of adversarial images."""


def _columns(rows: list[Row], overwritten: bool) -> Columns:
    """The three distances of Figure 7, 0..255, and both accuracies.

    Args:
        overwritten: whether x^(T) is taken for the adversarial image.
    """
    if overwritten:
        ends = [(row, row.history) for row in rows if row.history]
        distances = {
            "defended to adversarial": [255 * h.x_purified[-1] for _, h in ends],
            "adversarial to clean": [255 * h.x_clean[-1] for _, h in ends],
            "defended to clean": [255 * h.purified_clean[-1] for _, h in ends],
        }
        adversarial = [h.x_predictions[-1] == row.label for row, h in ends]
        defended = [h.predictions[-1] == row.label for row, h in ends]
    else:
        distances = {
            "defended to adversarial": [255 * row.purified_final for row in rows],
            "adversarial to clean": [255 * row.final_clean for row in rows],
            "defended to clean": [255 * row.purified_clean for row in rows],
        }
        adversarial = [row.bare == row.label for row in rows]
        defended = [row.predictions[0] == row.label for row in rows]
    return distances, _share(defended), _share(adversarial)


def _share(right: list[bool]) -> Cell:
    return share(Accuracy.of(right))


def _three_ways(
    results: ExperimentResults, case: str, title: str, eps: float
) -> dict[str, Columns]:
    """RIDE's columns by title: right, overwritten at the end, and in every step."""
    right, overwritten = (results.rows(case, results.label(case, threat)) for threat in _both(eps))
    shown = {}
    if right:
        shown[title] = _columns(right, False)
        if right[0].history:
            shown[f"{title}, overwritten at the end"] = _columns(right, True)
    if overwritten:
        shown[f"{title}, overwritten in every step"] = _columns(overwritten, True)
    return shown


def _compose(results: ExperimentResults) -> Iterator[Block]:
    filtered = {
        "no defence": "mnist-bpda-none",
        "median 3": "mnist-bpda-median-3",
        "TV Chambolle 0.1": "mnist-bpda-tv-chambolle-0.1",
    }
    found = {
        title: results.rows(name, results.label(name, bpda(EPS)[0]))
        for title, name in filtered.items()
    }
    shown = {title: _columns(rows, False) for title, rows in found.items() if rows}
    shown |= _three_ways(results, "mnist-distances-ride", "RIDE", EPS)
    shown |= _three_ways(results, "cifar10-distances-ride", "RIDE fast, CIFAR-10", CIFAR10_EPS)
    full = "cifar10-distances-ride-paper"
    shown |= _three_ways(results, full, "RIDE, CIFAR-10", CIFAR10_EPS)
    if not shown:
        return
    yield Table(
        "Accuracy, and mean distances 0..255",
        (
            "Defence",
            Column("n", "number"),
            Column("Defended images right", "interval"),
            Column("Adversarial images right", "interval"),
            Column("Defended to adversarial", "number"),
            Column("Adversarial to clean", "number"),
            Column("Defended to clean", "number"),
        ),
        [
            (
                title,
                number(len(distances["adversarial to clean"])),
                defended,
                adversarial,
                *map(_mean, distances.values()),
            )
            for title, (distances, defended, adversarial) in shown.items()
        ],
    )
    panels = {
        title: distances
        for title, (distances, _, _) in shown.items()
        if title != "no defence" and "CIFAR" not in title
    }
    if panels:
        yield Figure(
            "Distributions of the distances",
            lambda: distributions(panels, "mean absolute distance, 0..255"),
        )


def _mean(values: list[float]) -> Cell:
    mean = sum(values) / len(values)
    return number(mean, f"{mean:.2f}")


FIGURE_7 = Experiment(
    name="figure-7",
    source="Figure 7",
    title="BPDA on MNIST: distances between adversarial, clean and defended images",
    text=f"BPDA of ten steps at ε {EPS}. The figure is shown in three ways. The first is the right "
    "one: the adversarial image is the one that the attack returns. A defence that overwrites its "
    "input replaces that image by x^(T), its own running estimate. At the end of the attack, "
    "x^(T) is then taken for the adversarial image (second way); within the attack, each step "
    "starts from it (third way). Both make adversarial images look cleaner, and the attack weaker, "
    "than they are. The rows of CIFAR-10, at ε 0.05, test whether that explains Table 2 of the "
    "paper.",
    cases=_cases,
    compose=_compose,
)
