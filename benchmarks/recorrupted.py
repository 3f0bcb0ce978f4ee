"""Search, ablation and comparison of `Recorrupted` on CIFAR-10, as docs/schedule.md reports them.

    python benchmarks/recorrupted.py search --out runs/recorrupted-search
    python benchmarks/recorrupted.py ablation --out runs/recorrupted-ablation
    python benchmarks/recorrupted.py compare --images 200 --bpda 32 --out runs/recorrupted
    python benchmarks/recorrupted.py table runs/recorrupted

The attacker is in the gray box: FGSM and PGD-10 at 8/255 on the bare classifier. `compare` adds
BPDA on some of its images. Search and ablation draw none of the images that are compared. All
resume.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ridefense import RIDE, Recorrupted, tuning
from ridefense.attacks import FGSM, PGD
from ridefense.denoisers import NonLocalMeans
from ridefense.evaluate import Evaluation, Here, Threat, run
from ridefense.evaluate.sharing import GrayBoxImages
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
NARROW, WIDE = (replace(FAST.network, channels=(3, width, width, 3)) for width in (32, 48))
START = replace(FAST, network=NARROW, sigma=0.1, recorruption=0.5, steps=50)
"""Where the search began."""


SEARCHED: Mapping[str, Recorrupted] = {
    "start": START,
    "sigma-0.15": replace(START, sigma=0.15),
    "a-1": replace(START, recorruption=1.0),
    "sigma-0.2": replace(START, sigma=0.2),
    "sigma-0.15-steps-100": replace(START, sigma=0.15, steps=100),
    "sigma-0.2-steps-100": replace(START, sigma=0.2, steps=100),
    "sigma-0.15-a-0.25": replace(START, sigma=0.15, recorruption=0.25),
    "wide-100": replace(START, network=WIDE, steps=100),
}
"""Settings by name; "wide-100" is the prototype's."""

CHOSEN = SEARCHED["wide-100"]


def _other(**changes: Any) -> Recorrupted:
    return replace(CHOSEN, network=replace(WIDE, **changes))


ABLATED: Mapping[str, Purifier] = {
    "all": CHOSEN,
    "independent-target": replace(CHOSEN, target_noise="independent"),
    "direct-output": _other(residual=False, sigmoid=True),
    "relu": _other(slope=0.0),
    "constant-rate": replace(CHOSEN, decay="constant"),
    "last-3x3": _other(last_kernel=3),
    "noisy-output": replace(CHOSEN, output="eval", samples=16),
}
"""Each of the changes undone by itself."""


def search(purifiers: Mapping[str, Purifier], folder: Path, images: int) -> None:
    """Evaluate settings on images that `compare` does not draw."""
    reported, shared = Evaluation(**COMMON, limit=200), GrayBoxImages()
    for name, purifier in purifiers.items():
        found = tuning.Search(**COMMON, purifier=purifier, limit=images, reported=reported)
        run(found, folder / name, None, Here(), shared)
        print(name, "done", flush=True)


def compared() -> Mapping[str, Purifier]:
    """`fast` beside what stands in its way."""
    return {
        "none": Unchanged(),
        "jpeg-20": JPEG(20),
        "recorrupted": FAST,
        "ride": RIDE.preset("fast", network="cifar10"),
        "jpeg-15": JPEG(15),
        "median-3": Median(3),
        "nl-means": NonLocalMeans(),
    }


def compare(folder: Path, images: int, bpda: int) -> None:
    """One run folder for each purifier, and for each with BPDA on the first images of the draw."""
    shared = GrayBoxImages()
    for name, purifier in compared().items():
        run(
            Evaluation(**COMMON, purifier=purifier, limit=images),
            folder / name,
            None,
            Here(),
            shared,
        )
        if bpda and name != "none":
            through = COMMON | {"threats": (BPDA,)}
            run(Evaluation(**through, purifier=purifier, limit=bpda), folder / f"{name}-bpda")
        print(name, "done", flush=True)


def table(folder: Path) -> str:
    """Right images of each purifier: clean, then under each attack; in Markdown."""
    lines = []
    for result in sorted(read_results(folder).defences, key=lambda found: found.name):
        attacks = (result.clean, *result.every)
        cells = [f"{a.accuracy.correct:g} of {a.accuracy.n}" for a in attacks]
        lines.append(f"| {result.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("search", "ablation", "compare", "table"))
    parser.add_argument("folder", nargs="?", type=Path, help="of which the table is")
    parser.add_argument("--out", type=Path, default=Path("runs/recorrupted"))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--bpda", type=int, default=0, help="images for BPDA")
    args = parser.parse_args()
    torch.set_num_threads(1)
    match args.what:
        case "search":
            search(SEARCHED, args.out, args.images)
        case "ablation":
            search(ABLATED, args.out, args.images)
        case "compare":
            compare(args.out, args.images, args.bpda)
        case _:
            print(table(args.folder or args.out))


if __name__ == "__main__":
    main()
