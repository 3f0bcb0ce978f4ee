"""Time a fitting step of every engine and of its peers, side by side; see README.md here.

python benchmarks/fitting.py --out fitting.json [--networks mnist cifar10 imagenet] [--runs 5]
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import peers
from ridefense import DIP, RIDE, Settings, datasets

IMAGES = {
    "mnist": ("digits", 8),
    "cifar10": ("foolbox-cifar10", 4),
    "imagenet": ("foolbox-imagenet", 2),
}
# Steps of one timed run of a fast contender, and how many fewer a slow one does.
STEPS, SLOWER = {"mnist": 400, "cifar10": 100, "imagenet": 4}, 4


@dataclass(frozen=True)
class Contender:
    """Something that fits networks.

    Attributes:
        name: in the table.
        make: settings and images to a `peers.Peer`.
        settings: changes to the preset.
        work: "RIDE", or "DIP" for what deepinv does too.
        threads: that PyTorch and the native engine may use.
        alone: whether it takes one image at a time, so that one is enough to time it.
        slow: whether a timed run does fewer steps.
    """

    name: str
    make: Callable[[Settings, Tensor], peers.Peer]
    settings: dict[str, object]
    work: str = "RIDE"
    threads: int = 1
    alone: bool = False
    slow: bool = True


CONTENDERS = [
    Contender("native, 1 thread", peers.engine, {"engine": "native"}, slow=False),
    Contender("native, 2 threads", peers.engine, {"engine": "native"}, threads=2, slow=False),
    Contender("eager, one image", peers.engine, {"engine": "eager"}, alone=True),
    Contender("eager, batched", peers.engine, {"engine": "eager"}),
    Contender("plain loop", peers.loop, {}, alone=True),
    Contender("torch.compile of it", partial(peers.loop, compiled=True), {}, alone=True),
    Contender("torch.func.vmap", peers.vmap, {}),
    Contender("native, 1 thread", peers.engine, {"engine": "native"}, "DIP", slow=False),
    Contender("deepinv DeepImagePrior", peers.deepinv, {}, "DIP", alone=True),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--networks", nargs="+", default=list(IMAGES), choices=IMAGES)
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each")
    options = parser.parse_args()
    rows = [row for network in options.networks for row in compare(network, options.runs)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


def compare(network: str, runs: int) -> list[dict[str, object]]:
    """All contenders on one network, their runs interleaved."""
    name, count = IMAGES[network]
    images = datasets.load(name, limit=count).images
    entries = []
    for contender in CONTENDERS:
        torch.set_num_threads(contender.threads)
        torch.manual_seed(0)
        kind = {"RIDE": RIDE, "DIP": DIP}[contender.work]
        settings = replace(kind.preset("paper", network=network), **contender.settings)
        if contender.work == "DIP":  # what deepinv can do: no mask, no weight decay
            settings = replace(settings, mask_ratio=0.0, weight_decay=0.0)
        steps = max(1, STEPS[network] // (SLOWER if contender.slow else 1))
        own = images[:1] if contender.alone else images
        began = time.perf_counter()
        peer = contender.make(settings, own)
        peer.run(max(1, steps // 4))
        entries.append((contender, peer, own, steps, time.perf_counter() - began, []))
    for _ in range(runs):
        for contender, peer, own, steps, _, seconds in entries:
            torch.set_num_threads(contender.threads)
            began = time.perf_counter()
            peer.run(steps)
            seconds.append((time.perf_counter() - began) / (steps * len(own)))
    return [
        {
            "network": network,
            "work": contender.work,
            "contender": contender.name,
            "images": len(own),
            "steps": steps,
            "warm_up_seconds": warm_up,
            "milliseconds": [1e3 * second for second in seconds],
            "median": 1e3 * statistics.median(seconds),
            "distance": float((peer.output() - own).abs().mean()),
        }
        for contender, peer, own, steps, warm_up, seconds in entries
    ]


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    lines = (
        Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    )
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    return {
        "processor": facts.get("model name", platform.processor()),
        "family": facts.get("cpu family"),
        "model": facts.get("model"),
        "cores": os.cpu_count(),
        "avx512": "avx512f" in facts.get("flags", ""),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
    }


if __name__ == "__main__":
    main()
