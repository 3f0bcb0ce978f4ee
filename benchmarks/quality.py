"""Does a fast engine do as well as the reference? The full schedule, both engines, real digits.

    python benchmarks/quality.py --out quality.json [--engine native] [--images 20] [--seeds 3]

Engines draw the same random numbers, so they agree to rounding for some hundred steps; after that
rounding decides which way a fit goes, and only statistics can be compared. A digit is attacked on
the bare classifier (PGD-10, ε 0.2: gray box) and purified by both engines under each seed.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from ridefense import RIDE, classifiers, datasets
from ridefense.attacks import PGD


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--engine", default="native", help="to compare with eager")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--preset", default="paper")
    options = parser.parse_args()
    part = datasets.load("digits", limit=options.images)
    classifier = classifiers.load("digits-cnn")
    ids = part.ids.tolist()
    attacked = PGD(eps=0.2, step_size=0.04, steps=10)(classifier, part.images, part.labels, ids=ids)
    rows = []
    for engine in ("eager", options.engine):
        purify = replace(RIDE.preset(options.preset, network="mnist"), engine=engine)
        for seed in range(options.seeds):
            result = purify.estimate(attacked, ids=ids, seed=seed)
            with torch.no_grad():
                correct = classifier(result.value).argmax(dim=1) == part.labels
            distance = (result.value - part.images).abs().flatten(1).mean(dim=1)
            rows.append(
                {
                    "engine": result.engine,
                    "seed": seed,
                    "n": len(part),
                    "correct": int(correct.sum()),
                    "distance": distance.tolist(),
                    "final_loss": result.losses[:, -200:].mean(dim=1).tolist(),
                    "seconds": result.seconds,
                }
            )
            mean = float(distance.mean())
            print(f"{result.engine} seed {seed}: {rows[-1]['correct']} of {len(part)}, {mean:.5f}")
    options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
