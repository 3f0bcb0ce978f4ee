"""The certificates that docs/certify.md publishes, each by its name.

    python benchmarks/certify_runs.py --out runs/certify mnist-lines-0.5 mnist-none-0.5
    python benchmarks/certify_runs.py --list

They resume. MALLOC_MMAP_THRESHOLD_=1073741824 and MALLOC_TRIM_THRESHOLD_=2147483648 in the
environment make them half as fast again on Linux, since memory is kept between batches.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from ridefense.certify import Certification, certify
from ridefense.denoisers import ContrastBlur, OrientedLines
from ridefense.estimators import DAE, RIDE
from ridefense.filters import Unchanged

# Every 20th test digit: 500. Fits see every 100th: 100.
MNIST: dict[str, Any] = {
    "dataset": "mnist",
    "classifier": "mnist-cnn",
    "limit": None,
    "stride": 20,
    "n": 1000,
}
FITS: dict[str, Any] = MNIST | {"stride": 100}
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

# Settings by `certify_search.py`, which scores them on training images. At 0.25 and 0.5 the
# defaults are as good as the best that it found.
COARSE_LINES = OrientedLines(along=2.13, across=1.05, sharpness=6.9, gain=2.06, centre=0.48)
COARSE_BLUR = ContrastBlur(sigma=1.5, gain=1.5)

RUNS: dict[str, dict[str, Any]] = {}


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
_add("mnist-lines-10000", MNIST, OrientedLines(), 0.5, n=10_000)
_add("mnist-ride", FITS, RIDE.preset("fast", network="mnist"), 0.25, 0.5)
_add("mnist-dae", FITS, DAE.preset("fast", network="mnist"), 0.25, 0.5)
_add("photos-none", PHOTOS, Unchanged(), 0.25, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="runs, in this order; all")
    parser.add_argument("--out", type=Path, default=Path("runs/certify"))
    parser.add_argument("--list", action="store_true", help="tell the names and stop")
    args = parser.parse_args()
    if args.list:
        print(*RUNS, sep="\n")
        return
    for name in args.names or RUNS:
        began = time.process_time()
        found = certify(Certification(**RUNS[name]), args.out / name)
        spent = time.process_time() - began
        print(f"{name}: {len(found.rows)} images, {spent:.0f} s of processor time", flush=True)


if __name__ == "__main__":
    main()
