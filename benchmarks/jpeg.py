"""JPEG and non-local means as defences, on images that were JPEGs and on images that were not.

    python benchmarks/jpeg.py --out runs/jpeg
    python benchmarks/jpeg.py --table runs/jpeg

In the gray box FGSM and PGD-10 know the classifier alone. In the white box PGD-10 knows JPEG too:
with the identity for its derivative (BPDA), and through a codec with a derivative. docs/rivals.md
has the figures. Runs resume.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ridefense.attacks import FGSM, PGD
from ridefense.denoisers import NonLocalMeans
from ridefense.evaluate import Evaluation, Here, Threat, run
from ridefense.evaluate.sharing import GrayBoxImages
from ridefense.filters import Median, Unchanged
from ridefense.gradients import Identity, Surrogate
from ridefense.purifier import Purifier
from ridefense.results import read_results
from ridefense.rivals import JPEG

QUALITIES = (15, 20, 25)
KNOWN = 20
"""The quality that is attacked in the white box."""


@dataclass(frozen=True)
class Case:
    """Images, their classifier, and the radius of attacks on them.

    Attributes:
        images: how many, in the gray box.
        known: how many in the white box.
        median: kernel of the median filter.
        strength: of non-local means.
        size: side of the images in pixels; None leaves it to the classifier.
    """

    dataset: str
    classifier: str
    eps: float
    images: int
    known: int
    median: int = 3
    strength: float = 0.1
    size: int | None = None

    def evaluation(
        self, purifier: Purifier, threats: tuple[Threat, ...], images: int
    ) -> Evaluation:
        """The attacks on this purifier."""
        common: dict[str, Any] = {"draws": 1, "rounded": False, "batch": 8, "size": self.size}
        return Evaluation(
            dataset=self.dataset,
            classifier=self.classifier,
            purifier=purifier,
            threats=threats,
            limit=images,
            **common,
        )


PHOTOS: dict[str, Any] = {
    "dataset": "imagenet",
    "classifier": "efficientnet-lite0",
    "eps": 0.015,
    "median": 5,
    "strength": 0.05,
}
CASES: Mapping[str, Case] = {
    "cifar10-jpeg75": Case("cifar10-jpeg75", "cifar10-resnet20", 8 / 255, 100, 32),
    "cifar10-png": Case("foolbox-cifar10", "cifar10-resnet20", 8 / 255, 20, 20),
    "mnist": Case("mnist", "mnist-cnn", 0.2, 200, 200),
    "photographs": Case(**PHOTOS, images=24, known=8),
    # 96 pixels are cut from 110, a quarter of a photograph's short side: no block of its JPEG is
    # left.
    "photographs-small": Case(**PHOTOS, images=32, known=16, size=96),
}


def compute(name: str, case: Case, folder: Path) -> None:
    """Every purifier under every attack."""
    gray = Threat(attack=FGSM(eps=case.eps)), Threat(attack=PGD(eps=case.eps))
    purifiers: dict[str, Purifier] = {
        "none": Unchanged(),
        "median": Median(case.median),
        "nl-means": NonLocalMeans(case.strength),
        **{f"jpeg-{quality}": JPEG(quality) for quality in QUALITIES},
    }
    shared = GrayBoxImages()
    for label, purifier in purifiers.items():
        evaluation = case.evaluation(purifier, gray, case.images)
        run(evaluation, folder / name / label, None, Here(), shared)
    jpeg = JPEG(KNOWN)
    (codec,) = jpeg.stand_ins
    known = tuple(
        Threat(attack=PGD(eps=case.eps), gradient=gradient)
        for gradient in (Identity(), Surrogate(codec))
    )
    run(case.evaluation(jpeg, known, case.known), folder / name / f"jpeg-{KNOWN}-known")
    print(name, "done", flush=True)


def table(folder: Path) -> str:
    """A row for each case and purifier, in Markdown."""
    lines = []
    for name in CASES:
        if not (folder / name).is_dir():
            continue
        for result in read_results(folder / name).defences:
            cells = [
                f"{attack.title} {attack.accuracy.correct:g}/{attack.accuracy.n}"
                for attack in (result.clean, *result.every)
            ]
            lines.append(f"| {name} | {result.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all")
    parser.add_argument("--out", type=Path, default=Path("runs/jpeg"))
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="print its table and stop")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.table:
        print(table(args.table))
        return
    for name in args.names or CASES:
        compute(name, CASES[name], args.out)


if __name__ == "__main__":
    main()
