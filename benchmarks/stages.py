"""Where a step of the native engine spends its time, stage by stage.

python benchmarks/stages.py --out stages.json [--clock 4.48]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import ridefense_native
import torch

from ridefense import RIDE
from ridefense.engines.native import NativeFits
from ridefense.noise import Keys

SIZES = {"mnist": (28, 28), "cifar10": (32, 32), "imagenet": (224, 224)}
STEPS = {"mnist": 4000, "cifar10": 1000, "imagenet": 60}
LANES = 16  # of a vector of 512 bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--clock", type=float, help="GHz, for vector multiply-adds a cycle")
    parser.add_argument("--network", choices=SIZES, action="append", help="these alone")
    options = parser.parse_args()
    found = {network: stages(network, options.clock) for network in options.network or SIZES}
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    for network, rows in found.items():
        print(network)
        for name, row in rows.items():
            rate = (
                f", {row['a cycle']:.2f} vector multiply-adds a cycle" if "a cycle" in row else ""
            )
            print(f"  {name}: {row['share']:.1%}{rate}")


def stages(network: str, clock: float | None) -> dict[str, dict[str, float]]:
    """Each stage's share of the ticks, over steps after as many that warm up."""
    settings = RIDE.preset("paper", network=network)
    image = torch.rand(1, settings.network.channels[0], *SIZES[network])
    fits = NativeFits(settings, image, Keys.of(0, None, 1, image.device))
    steps = STEPS[network]
    rates = [settings.learning_rate] * steps
    fits.fit(image, range(steps), rates)
    costs = np.zeros((1, len(ridefense_native.STAGES), 2), np.int64)
    began = time.process_time()
    ridefense_native.fit(
        fits._plan(SIZES[network], image),
        fits._keys(),
        image.numpy(),
        fits.weights.numpy(),
        fits.moments.numpy(),
        np.empty((1, steps), np.float32),
        steps,
        np.array(rates),
        0,
        1,
        costs=costs,
    )
    seconds, (ticks, multiplied) = time.process_time() - began, costs[0].T
    found = {}
    for name, own, count in zip(ridefense_native.STAGES, ticks, multiplied, strict=True):
        found[name] = {"share": float(own / ticks.sum())}
        if clock and count:
            # The counter ticks at a rate of its own: what it counted in all took so many seconds.
            cycles = own / ticks.sum() * seconds * clock * 1e9
            found[name]["a cycle"] = float(count / LANES / cycles)
    return found


if __name__ == "__main__":
    main()
