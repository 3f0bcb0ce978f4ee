"""Votes a second and core of certificates, and the same beside ART's randomised smoothing.

    python benchmarks/certify.py --out certify.json
    python benchmarks/certify.py --table certify.json

Both certify the same function of the same images in turn, on one thread, and processor time is
measured. ART's function clips nothing either. Its radii are in the JSON beside ours: they agree to
what two draws of the noise differ by.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ridefense import classifiers, datasets, purifiers
from ridefense.certify import Smoothed
from ridefense.evaluate.provenance import provenance
from ridefense.purifier import Purifier

SIGMA, N0 = 0.5, 100
RUNS = 5

# By data set: the classifier, the purifiers, and draws a run that take about a second.
CASES: dict[str, tuple[str, dict[str, int]]] = {
    "mnist": (
        "mnist-cnn",
        {
            "none": 2000,
            "blur:0.9": 2000,
            "contrast-blur": 2000,
            "lines": 2000,
            "strokes": 2000,
            "tv-chambolle:0.5": 300,
            "nl-means:0.5": 300,
            "ride": 64,
            "dae": 64,
        },
    ),
    "cifar10-jpeg75": (
        "cifar10-resnet20",
        {"none": 500, "blur:0.9": 500, "tv-chambolle:0.3": 200, "nl-means:0.3": 200},
    ),
    "imagenet": ("efficientnet-lite0", {"none": 16, "blur:2": 16}),
}
ART_CASES = ("none", "blur:0.9", "lines")
ART_IMAGES, ART_DRAWS = 3, 1000


class Composed(nn.Module):
    """A classifier behind a purifier that takes noisy pixels as they are, as one module."""

    def __init__(self, purifier: Purifier, classifier: nn.Module) -> None:
        super().__init__()
        self.purifier, self.classifier = purifier, classifier

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.purifier.raw(images))
        return logits


def votes(dataset: str) -> list[dict[str, Any]]:
    """Votes a second of every purifier; the median and all runs."""
    name, cases = CASES[dataset]
    classifier = classifiers.load(name).to(memory_format=torch.channels_last)
    sizing = classifier.sizing if dataset == "imagenet" else None
    image = datasets.load(dataset, limit=1, size=sizing).images
    found: dict[str, list[float]] = {purifier: [] for purifier in cases}
    smoothed = {purifier: _smoothed(purifier, classifier) for purifier in cases}
    for run in range(-1, RUNS):  # the first is a warm-up
        for purifier, draws in cases.items():
            count = max(1, draws // 4) if run < 0 else draws
            began = time.process_time()
            smoothed[purifier].votes(image, n=count)
            if run >= 0:
                found[purifier].append(count / (time.process_time() - began))
    return [
        {
            "dataset": dataset,
            "classifier": name,
            "purifier": purifier,
            "votes a second": statistics.median(speeds),
            "runs": speeds,
        }
        for purifier, speeds in found.items()
    ]


def beside_art() -> list[dict[str, Any]]:
    """Both libraries on the same images, in turn."""
    from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing

    images = datasets.load("mnist", limit=ART_IMAGES).images
    found = []
    for name in ART_CASES:
        # As PyTorch lays it out, for both.
        classifier = classifiers.load("mnist-cnn")
        smoothed = _smoothed(name, classifier)
        module = classifier if name == "none" else Composed(purifiers.load(name), classifier)
        art = PyTorchRandomizedSmoothing(
            model=module.eval(),
            loss=nn.CrossEntropyLoss(),
            input_shape=(1, 28, 28),
            nb_classes=10,
            device_type="cpu",
            sample_size=N0,
            scale=SIGMA,
            alpha=0.001,
        )
        arrays = images.numpy()
        seconds: dict[str, list[float]] = {"ridefense": [], "art": []}
        radii: dict[str, list[float]] = {}
        for run in range(-1, RUNS):
            count = ART_DRAWS // 4 if run < 0 else ART_DRAWS
            np.random.seed(max(0, run))
            began = time.process_time()
            own = smoothed.certify(images, n0=N0, n=count, seed=max(0, run))
            middle = time.process_time()
            _, theirs = art.certify(arrays, n=count, batch_size=256)
            ended = time.process_time()
            if run >= 0:
                drawn = sum(N0 + one.drawn for one in own)
                seconds["ridefense"].append(drawn / (middle - began))
                seconds["art"].append(len(images) * (N0 + count) / (ended - middle))
                radii = {
                    "ridefense": [one.radius for one in own],
                    "art": [round(float(radius), 6) for radius in theirs],
                }
        found.append(
            {
                "purifier": name,
                "votes a second": {who: statistics.median(s) for who, s in seconds.items()},
                "runs": seconds,
                "radii of the last run": radii,
            }
        )
    return found


def table(path: Path) -> str:
    """The measurements as two tables in Markdown."""
    found = json.loads(path.read_text())
    lines = ["| data set | classifier | purifier | votes a second |", "| --- | --- | --- | ---: |"]
    for row in found["votes"]:
        names = [row[key] for key in ("dataset", "classifier", "purifier")]
        lines.append(f"| {' | '.join(names)} | {row['votes a second']:,.0f} |")
    lines += ["", "| purifier | ridefense | ART | ratio |", "| --- | ---: | ---: | ---: |"]
    for row in found["beside ART"]:
        own, art = (row["votes a second"][who] for who in ("ridefense", "art"))
        lines.append(f"| {row['purifier']} | {own:,.0f} | {art:,.0f} | {own / art:.2f} |")
    return "\n".join(lines)


def _smoothed(purifier: str, classifier: nn.Module) -> Smoothed:
    network = "mnist" if purifier in ("ride", "dae") else None
    made = purifiers.load(purifier, network=network)
    model = classifier if purifier == "none" else made.behind(classifier)
    return Smoothed(model, SIGMA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--table", type=Path, help="such a file, to be shown as tables")
    args = parser.parse_args()
    if args.table:
        print(table(args.table))
        return
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "provenance": provenance("cpu"),
        "sigma": SIGMA,
        "beside ART": beside_art(),
    }
    found["votes"] = [row for dataset in CASES for row in votes(dataset)]
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
