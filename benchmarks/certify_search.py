"""Choose the settings of the denoisers that docs/certify.md certifies, on other images.

    python benchmarks/certify_search.py --dataset digits --sigma 0.5 --purifier lines

Settings are drawn at random. Each is scored on images of the training split by the mean of the
radii that its votes suggest, without the confidence bound. A line of JSON a setting, the best last.
"""

import argparse
import json
import random
from collections.abc import Callable
from typing import Any

import torch

from ridefense import classifiers, datasets
from ridefense.certify import Smoothed, bounds
from ridefense.denoisers import ContrastBlur, NonLocalMeans, OrientedLines
from ridefense.filters import GaussianBlur, TVChambolle
from ridefense.purifier import Purifier

Draw = Callable[[random.Random], Purifier]


def _blur(draw: random.Random) -> Purifier:
    return ContrastBlur(
        sigma=round(draw.uniform(0.6, 2.0), 2),
        gain=round(draw.uniform(1.0, 3.0), 2),
        centre=round(draw.uniform(0.3, 0.6), 2),
    )


def _lines(draw: random.Random) -> Purifier:
    return OrientedLines(
        along=round(draw.uniform(1.4, 3.2), 2),
        across=round(draw.uniform(0.5, 1.2), 2),
        sharpness=round(draw.uniform(3, 16), 1),
        gain=round(draw.uniform(1.2, 3.0), 2),
        centre=round(draw.uniform(0.3, 0.6), 2),
    )


DRAWS: dict[str, Draw] = {
    "contrast-blur": _blur,
    "lines": _lines,
    "blur": lambda draw: GaussianBlur(round(draw.uniform(0.4, 2.5), 2)),
    "tv-chambolle": lambda draw: TVChambolle(round(draw.uniform(0.1, 2.0), 2)),
    "nl-means": lambda draw: NonLocalMeans(
        strength=round(draw.uniform(0.1, 1.2), 2),
        patch=draw.choice([3, 5, 7]),
        distance=draw.choice([4, 6, 10]),
    ),
}


def score(purifier: Purifier, classifier: Any, images: Any, sigma: float, draws: int) -> float:
    """The mean over images of the radius that the share of right votes suggests."""
    smoothed = Smoothed(purifier.behind(classifier), sigma, batch=64)
    total = 0.0
    for image, label in zip(images.images, images.labels.tolist(), strict=True):
        counts = smoothed.votes(image[None], n=draws)[0]
        share = float(counts[label]) / draws
        total += bounds.radius(min(share, 1 - 1 / draws), sigma)
    return total / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--classifier", default="mnist-cnn")
    parser.add_argument("--sigma", type=float, default=0.5)
    parser.add_argument("--purifier", choices=DRAWS, default="lines")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--settings", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    images = datasets.load(args.dataset, "train", limit=args.images)
    classifier = classifiers.load(args.classifier).to(memory_format=torch.channels_last)
    draw, best = random.Random(0), (-1.0, "")
    for _ in range(args.settings):
        purifier = DRAWS[args.purifier](draw)
        found = score(purifier, classifier, images, args.sigma, args.draws)
        print(json.dumps({"radius": round(found, 4), "purifier": repr(purifier)}), flush=True)
        best = max(best, (found, repr(purifier)))
    print(json.dumps({"best": best[1], "radius": round(best[0], 4), **vars(args)}))


if __name__ == "__main__":
    main()
