"""The certificates that docs/certify.md publishes, each by its name.

    python benchmarks/certify_runs.py --out runs/certify mnist-lines-0.5 mnist-none-0.5
    python benchmarks/certify_runs.py --list
    python benchmarks/certify_runs.py --table runs/certify

They resume. MALLOC_MMAP_THRESHOLD_=1073741824 and MALLOC_TRIM_THRESHOLD_=2147483648 in the
environment make them half as fast again on Linux, since memory is kept between batches.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ridefense.certify import Certification, attacked, certify, read_certificates
from ridefense.certify.published import RADII
from ridefense.denoisers import ContrastBlur, Leaves, NonLocalMeans, OrientedLines, Strokes
from ridefense.estimators import DAE, RIDE, Recorrupted
from ridefense.evaluate import run
from ridefense.filters import GaussianBlur, TVChambolle, Unchanged
from ridefense.networks import NetworkName
from ridefense.rivals import JPEG

# Every 20th test digit: 500, with 10,000 draws. Fits see every 100th, with 1,000.
MNIST: dict[str, Any] = {
    "dataset": "mnist",
    "classifier": "mnist-cnn",
    "limit": None,
    "stride": 20,
    "n": 10_000,
}
FITS: dict[str, Any] = MNIST | {"stride": 100, "n": 1000}
CIFAR: dict[str, Any] = {
    "dataset": "cifar10-jpeg75",
    "classifier": "cifar10-resnet20",
    "limit": None,
    "stride": 100,
    "n": 1000,
}
PHOTOS: dict[str, Any] = {
    "dataset": "imagenet",
    "classifier": "efficientnet-lite0",
    "limit": None,
    "stride": 3,
    "n": 1000,
}
ROBUST = "mnist-cnn-adv0.2"
ROBUST_CIFAR = "cifar10-resnet20-adv0.031"

# Settings by `certify_search.py`, which scores them on training images. At 0.25 and 0.5 the
# defaults are as good as the best that it found.
COARSE_LINES = OrientedLines(along=2.13, across=1.05, sharpness=6.9, gain=2.06, centre=0.48)
COARSE_BLUR = ContrastBlur(sigma=1.5, gain=1.5)

RUNS: dict[str, dict[str, Any]] = {}


def _recorrupted(network: NetworkName, sigma: float) -> Recorrupted:
    """`fast` at the noise's own σ, at which its pairs are unbiased, in half the steps."""
    fast = Recorrupted.preset("fast", network=network)
    return replace(fast, sigma=sigma, recorruption=1.0, steps=50)


def _add(name: str, common: dict[str, Any], purifier: Any, *sigmas: float, **changes: Any) -> None:
    for sigma in sigmas:
        settings = common | changes | {"purifier": purifier, "sigma": sigma}
        RUNS[f"{name}-{sigma:g}"] = settings


_add("mnist-none", MNIST, Unchanged(), 0.25, 0.5, 1.0)
_add("mnist-contrast-blur", MNIST, ContrastBlur(), 0.25, 0.5)
_add("mnist-contrast-blur", MNIST, COARSE_BLUR, 1.0)
_add("mnist-lines", MNIST, OrientedLines(), 0.25, 0.5)
_add("mnist-lines", MNIST, COARSE_LINES, 1.0)
_add("mnist-lines-adv", MNIST, OrientedLines(), 0.5, classifier=ROBUST)
_add("mnist-lines-adv", MNIST, COARSE_LINES, 1.0, classifier=ROBUST)
_add("mnist-strokes", MNIST, Strokes(), 0.25, 0.5, 1.0)
_add("mnist-strokes-adv", MNIST, Strokes(), 0.5, 1.0, classifier=ROBUST)
_add("mnist-ride", FITS, RIDE.preset("fast", network="mnist"), 0.25, 0.5)
_add("mnist-dae", FITS, DAE.preset("fast", network="mnist"), 0.25, 0.5)
_add("mnist-recorrupted", FITS, _recorrupted("mnist", 0.5), 0.5)
_add("cifar10-none", CIFAR, Unchanged(), 0.12, 0.25, 0.5)
_add("cifar10-blur", CIFAR, GaussianBlur(0.6), 0.12)
_add("cifar10-blur", CIFAR, GaussianBlur(0.9), 0.25, 0.5)
_add("cifar10-leaves", CIFAR, Leaves(), 0.12, 0.25, 0.5)
_add("cifar10-adv-none", CIFAR, Unchanged(), 0.25, 0.5, classifier=ROBUST_CIFAR)
_add("cifar10-adv-blur", CIFAR, GaussianBlur(0.7), 0.25, classifier=ROBUST_CIFAR)
_add("cifar10-adv-blur", CIFAR, GaussianBlur(1.2), 0.5, classifier=ROBUST_CIFAR)
_add("cifar10-adv-leaves", CIFAR, Leaves(), 0.25, 0.5, 1.0, classifier=ROBUST_CIFAR)
_add("cifar10-nl-means", CIFAR, NonLocalMeans(0.2, sigma=0.25), 0.25)
_add("cifar10-tv", CIFAR, TVChambolle(0.3), 0.25)
_add("cifar10-jpeg", CIFAR, JPEG(50), 0.25, path="clipped")
_add("cifar10-recorrupted", CIFAR, _recorrupted("cifar10", 0.25), 0.25)
_add("photos-none", PHOTOS, Unchanged(), 0.25, 0.5)


ATTACKED = {
    "mnist-lines-0.5": (0.5, 1.0, 2.0),
    "mnist-strokes-0.5": (0.5, 1.0, 2.0),
    "cifar10-leaves-0.25": (0.25, 0.5),
    "cifar10-adv-blur-0.25": (0.25, 0.5),
}
"""Radii within which the smoothed classifier of a run is attacked, on every 100th image."""


def compute(name: str, folder: Path) -> str:
    """Compute or resume a run, or the attacks "NAME-attacked" on it; what was done."""
    attacked_run = name.removesuffix("-attacked")
    if attacked_run == name:
        found = certify(Certification(**RUNS[name]), folder / name)
        return f"{len(found.rows)} images"
    certification = Certification(**RUNS[attacked_run] | {"stride": 100})
    evaluation = attacked.evaluation(certification, ATTACKED[attacked_run])
    return f"{len(run(evaluation, folder / name).rows)} rows"


def table(folder: Path) -> str:
    """The certificates at or below a folder as a table in Markdown, shares in per cent."""
    radii = " / ".join(f"{radius:g}" for radius in RADII)
    lines = [
        f"| in front of the classifier | classifier | σ | images | n | r {radii} | "
        "average radius | abstains | certified but wrong |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    found = read_certificates(folder)
    for result in sorted(found, key=lambda one: (one.classifier, one.sigma, one.average_radius)):
        shares = " / ".join(f"{100 * result.certified(r).fraction:.0f}" for r in RADII)
        counts = f"{len(result.rows)} | {result.folder.settings['n']}"
        rest = [result.abstentions.fraction, result.wrong.fraction]
        lines.append(
            f"| {result.title} | {result.classifier} | {result.sigma:g} | {counts} | {shares} | "
            f"{result.average_radius:.2f} | {' | '.join(f'{100 * share:.0f}' for share in rest)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="runs, in this order; all")
    parser.add_argument("--out", type=Path, default=Path("runs/certify"))
    parser.add_argument("--list", action="store_true", help="tell the names and stop")
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="print its table and stop")
    args = parser.parse_args()
    if args.table:
        print(table(args.table))
        return
    if args.list:
        print(*RUNS, *(f"{name}-attacked" for name in ATTACKED), sep="\n")
        return
    every = [*RUNS, *(f"{name}-attacked" for name in ATTACKED)]
    for name in args.names or every:
        began = time.process_time()
        done = compute(name, args.out)
        spent = time.process_time() - began
        print(f"{name}: {done}, {spent:.0f} s of processor time", flush=True)


if __name__ == "__main__":
    main()
