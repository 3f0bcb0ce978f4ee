"""Peak memory that the native engine adds for one image: a fresh process for each network.

python benchmarks/memory.py --out memory.json
"""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

SIZES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "imagenet": (3, 224, 224)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--network", choices=SIZES, help="measure this one, in this process")
    options = parser.parse_args()
    if options.network:
        print(megabytes(options.network))
        return
    found = {}
    for network in SIZES:
        command = [sys.executable, __file__, "--out", str(options.out), "--network", network]
        found[network] = float(subprocess.run(command, check=True, stdout=-1).stdout)
        print(f"{network}: {found[network]:.1f} MB")
    options.out.write_text(json.dumps({"megabytes an image": found}, indent=1) + "\n")


def megabytes(network: str) -> float:
    """Growth of the process's peak over fitting a first, tiny image with the same engine."""
    import torch

    from ridefense import RIDE, Network
    from ridefense.memory import peak_megabytes

    torch.set_num_threads(1)
    purify = replace(RIDE.preset("paper", network=network), steps=2, rounds=1, engine="native")
    channels, height, width = SIZES[network]
    tiny = replace(purify, sigma=0.1, network=Network(channels=(1, 16, 1)))
    tiny(torch.zeros(1, 1, 4, 4))
    images = torch.rand(1, channels, height, width)
    before = peak_megabytes()
    purify(images)
    return peak_megabytes() - before


if __name__ == "__main__":
    main()
