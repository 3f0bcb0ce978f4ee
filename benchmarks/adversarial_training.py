"""Adversarially trained classifiers: what PGD leaves of each, and what AutoAttack's attacks do.

    python benchmarks/adversarial_training.py CLASSIFIER ... --dataset digits --eps 0.3 --out FOLDER

Each classifier is attacked by itself, without a purifier, by PGD of 40 steps and by the two
gradient attacks of AutoAttack, whose worst case counts. Prints a table; FOLDER has a run folder
for each classifier and resumes. docs/classifiers.md says how the classifiers were trained.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from ridefense.attacks import APGD, PGD, dlr
from ridefense.cli.options import radius
from ridefense.evaluate import Evaluation, Threat, run
from ridefense.results import Accuracy, DefenceResult


def threats(eps: float, steps: int) -> Iterator[Threat]:
    """PGD with the steps of docs/classifiers.md, and AutoAttack's APGD on both losses."""
    yield Threat(attack=PGD(eps=eps, step_size=eps / 10, steps=40, random_start=True))
    yield Threat(attack=APGD(eps=eps, steps=2 * steps))
    yield Threat(attack=APGD(eps=eps, steps=steps, loss=dlr, targets=9))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("classifiers", nargs="+")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--eps", type=radius, action="append", required=True)
    parser.add_argument("--steps", type=int, default=25, help="of APGD on the DLR loss")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    print("| classifier | ε | clean | PGD-40 | APGD-CE | APGD-T | worst case |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.classifiers:
        title = Path(name).name.removesuffix(".safetensors")
        evaluation = Evaluation(
            dataset=options.dataset,
            classifier=name,
            threats=tuple(t for eps in options.eps for t in threats(eps, options.steps)),
            limit=options.images,
            batch=100,
        )
        result = DefenceResult.of(name, run(evaluation, options.out / title))
        for eps in options.eps:
            shown = [result.clean, *result.at("Linf", eps), result.worst_case("Linf", eps)]
            told = [_percent(each.accuracy) for each in shown if each]
            print("|", " | ".join([title, f"{eps:.3g}", *told]), "|")


def _percent(accuracy: Accuracy) -> str:
    low, high = accuracy.interval
    return f"{100 * accuracy.fraction:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    main()
