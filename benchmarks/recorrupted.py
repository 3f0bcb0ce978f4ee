"""Search, ablation and comparison of `Recorrupted` on CIFAR-10, as docs/schedule.md reports them.

    python benchmarks/recorrupted.py search --out runs/recorrupted-search
    python benchmarks/recorrupted.py ablation --out runs/recorrupted-ablation
    python benchmarks/recorrupted.py compare --out runs/recorrupted
    python benchmarks/recorrupted.py table runs/recorrupted

The attacker is in the gray box: FGSM and PGD-10 at 8/255 on the bare classifier. `compare` adds
BPDA on some of its images. The search draws none of the images that are compared. All resume.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ridefense import NETWORKS, RIDE, Recorrupted, tuning
from ridefense.attacks import FGSM, PGD
from ridefense.denoisers import NonLocalMeans
from ridefense.evaluate import Evaluation, Threat, run
from ridefense.filters import Median, Unchanged
from ridefense.gradients import Identity
from ridefense.purifier import Purifier
from ridefense.results import read_results
from ridefense.rivals import JPEG

EPS = 8 / 255
GRAY = (Threat(attack=FGSM(eps=EPS)), Threat(attack=PGD(eps=EPS)))
BPDA = Threat(attack=PGD(eps=EPS), gradient=Identity())
COMMON: dict[str, Any] = {
    "dataset": "cifar10-jpeg75",
    "classifier": "cifar10-resnet20",
    "threats": GRAY,
    "batch": 16,
    "draws": 1,
    "rounded": False,
}
FAST = Recorrupted.preset("fast", network="cifar10")
START = replace(FAST, sigma=0.1, recorruption=0.5, steps=100)
"""Where the search began."""

GRID: list[tuning.Changes] = [
    {},
    *({"sigma": sigma} for sigma in (0.06, 0.15, 0.2)),
    *({"recorruption": a} for a in (0.25, 1.0)),
    *({"steps": steps} for steps in (50, 200)),
    {"sigma": 0.15, "recorruption": 0.25},
    {"sigma": 0.15, "steps": 50},
]


def search(folder: Path, images: int) -> None:
    """Evaluate every θ, and write the best as a preset."""
    reported = Evaluation(**COMMON, limit=200)
    found = tuning.Search(**COMMON, purifier=START, limit=images, reported=reported)
    for trial in tuning.tune(found, GRID, folder):
        right = [f"{a.accuracy.correct:g}" for a in trial.attacks]
        print(f"{trial.loss:.3f}", "/".join(right), trial.changes, f"{trial.seconds:.2f} s")


def variants() -> Mapping[str, Purifier]:
    """`fast` of Recorrupted, with each of its changes undone."""
    network = FAST.network

    def other(**changes: Any) -> Recorrupted:
        return replace(FAST, network=replace(network, **changes))

    return {
        "all": FAST,
        "independent-target": replace(FAST, target_noise="independent"),
        "direct-output": other(residual=False, sigmoid=True),
        "relu": other(slope=0.0),
        "last-3x3": other(last_kernel=3),
        "noisy-output": replace(FAST, output="eval", samples=16),
        "constant-rate": replace(FAST, decay="constant"),
        "ride-network": replace(FAST, network=NETWORKS["cifar10"]),
    }


def compared() -> Mapping[str, Purifier]:
    """`fast` beside what stands in its way."""
    return {
        "none": Unchanged(),
        "median-3": Median(3),
        "nl-means": NonLocalMeans(),
        "jpeg-15": JPEG(15),
        "jpeg-20": JPEG(20),
        "ride": RIDE.preset("fast", network="cifar10"),
        "recorrupted": FAST,
    }


def evaluate(purifiers: Mapping[str, Purifier], folder: Path, images: int) -> None:
    """One run folder for each purifier."""
    for name, purifier in purifiers.items():
        run(Evaluation(**COMMON, purifier=purifier, limit=images), folder / name)
        print(name, "done", flush=True)


def table(folder: Path) -> str:
    """Right images of each purifier under each attack, in Markdown."""
    lines = []
    for result in read_results(folder):
        attacks = (result.clean, *result.every)
        cells = [f"{a.label} {a.accuracy.correct:g}/{a.accuracy.n}" for a in attacks]
        lines.append(f"| {result.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("search", "ablation", "compare", "table"))
    parser.add_argument("--out", type=Path, default=Path("runs/recorrupted"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--bpda", type=int, default=0, help="images that BPDA attacks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    match args.what:
        case "search":
            search(args.out, args.images)
        case "ablation":
            evaluate(variants(), args.out, args.images)
        case "compare":
            evaluate(compared(), args.out, args.images)
        case _:
            print(table(args.out))


if __name__ == "__main__":
    main()
