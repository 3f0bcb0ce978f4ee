"""What the paper says without a table or figure: Theorem 1, what is returned, cost, and others."""

import itertools
from collections.abc import Iterator

from ridefense.estimators import IDIP, RIDE
from ridefense.evaluate import CLEAN, Accuracy
from ridefense.experiments.ablation import (
    NAMES,
    TEXT,
    attack_of,
    field_of,
    histories,
    history,
    kinds,
)
from ridefense.experiments.blocks import Block, Picture, Table
from ridefense.experiments.experiment import Experiment, Records
from ridefense.experiments.plots import curves
from ridefense.report.tables import interval, percent


def _theorem_1(records: Records) -> Iterator[Block]:
    rows = []
    for what, attack in (("clean", CLEAN), ("attacked", attack_of(records, "fit-theorem"))):
        found = histories(records.rows("fit-theorem", attack))
        objectives = [history.objective for _, history in found if history.objective]
        if not objectives:
            continue
        panels = {
            what: {
                f"image {row.image}": [(t, v, v, v) for t, v in enumerate(history.objective, 1)]
                for row, history in found[:10]
            }
        }
        yield Picture(
            f"Objective over rounds, {what} images",
            curves(panels, "round t", "L_RIDE, mean squared error"),
        )
        held = [d for _, history in found for d in history.descended]
        falls = [b <= a for values in objectives for a, b in itertools.pairwise(values)]
        rows.append(
            (
                (what,),
                (str(len(objectives)),),
                (f"{sum(held)} of {len(held)}",),
                (f"{sum(falls)} of {len(falls)}",),
            )
        )
    columns = ("Images", "n", "Rounds that did not raise L_DAE", "Rounds after which L_RIDE fell")
    yield Table("Theorem 1's condition, and what it promises", columns, rows)


def _output(records: Records) -> Iterator[Block]:
    rows = []
    for name, title in NAMES.items():
        for what, attack in (("clean", CLEAN), ("attacked", attack_of(records, name))):
            found = histories(records.rows(name, attack))
            if found and title in ("RIDE", "I-DIP"):
                shares = [
                    Accuracy(sum(getattr(h, part)[-1] == r.label for r, h in found), len(found))
                    for part in ("predictions", "x_predictions")
                ]
                points = 100 * (shares[0].fraction - shares[1].fraction)
                cells = [(percent(s.fraction), interval(s)) for s in shares]
                rows.append(((title,), (what,), (str(len(found)),), *cells, (f"{points:+.1f}",)))
    columns = ("Estimator", "Images", "n", "x_est^(T)", "x^(T)", "Points between")
    yield Table("What is returned", columns, rows, "The paper: x^(T) is about 15 points worse.")


THEOREM_1 = Experiment(
    name="theorem-1",
    source="Theorem 1",
    title="The objective never rises, where a round does not raise the DAE's loss",
    text="L_RIDE after each round, measured at x^(t-1) with one set of noise, mask and dropout for "
    "the weights before and after. The theorem's condition is not guaranteed by Adam on a random "
    "loss: the table counts how often it held. " + TEXT,
    cases=lambda lab: {
        "fit-theorem": history(lab, lab.estimator(field_of(lab), check_descent=True), images=20)
    },
    compose=_theorem_1,
)
OUTPUT = Experiment(
    name="text-output",
    source="Footnote 1",
    title="x_est^(T) against x^(T)",
    text=TEXT,
    cases=lambda lab: kinds(lab, IDIP, RIDE),
    compose=_output,
)
