"""Check the GPU engine's kernels against eager in float64, then time them; needs an NVIDIA GPU.

    python benchmarks/gpu.py --out gpu.json [--networks mnist cifar10 imagenet] [--seconds 120]

Three kinds of rows: "check", errors of one run beside the oracle; "step", the time of a step;
"schedule", a whole `paper` schedule with its quality. The most valuable come first, and the file is
written anew after each, so that a run that is cut off keeps what it has. Without a GPU it exits
with status 3, after a failed check with status 1.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ridefense import RIDE, datasets
from ridefense.files import write_atomically
from ridefense.noise import Keys

NO_GPU = 3
DATA = {"mnist": "digits", "cifar10": "foolbox-cifar10", "imagenet": "foolbox-imagenet"}
# Images a batch, few and many; of a whole schedule, the engine's and eager's.
BATCHES = {"mnist": (1, 132, 1056), "cifar10": (1, 132, 528), "imagenet": (1, 8, 32)}
WHOLE = {"mnist": (1056, 64), "cifar10": (264, 16), "imagenet": (16, 0)}
STEPS = {"mnist": 400, "cifar10": 200, "imagenet": 40}
PRECISIONS = ("float16", "bfloat16", "tf32", "float32")

Row = dict[str, object]
Job = Callable[[], Row]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--networks", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing later")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device is present: nothing was checked or timed")
        return NO_GPU
    return measure(jobs(options.networks, options.runs), options.out, options.seconds, machine())


def measure(work: Iterator[Job], out: Path, seconds: float, about: Row) -> int:
    """Do the jobs in their order, and write what there is after each; the exit status."""
    began, rows = time.monotonic(), []
    for job in work:
        if time.monotonic() - began > seconds:
            print(f"{seconds:g} s are over: the rest is left out")
            break
        rows.append(job())
        print(rows[-1], flush=True)
        write_atomically(
            out, (json.dumps({"machine": about, "rows": rows}, indent=1) + "\n").encode()
        )
    return 0 if all(row.get("passed", True) for row in rows) else 1


def jobs(networks: list[str], runs: int) -> Iterator[Job]:
    """What is measured, the most valuable first."""
    for network in networks:
        yield from (partial(check, network, "float16", alone) for alone in (True, False))
    for network in networks:
        yield partial(schedule, network, "cuda", WHOLE[network][0])
    for network in networks:
        if WHOLE[network][1]:
            yield partial(schedule, network, "cuda", WHOLE[network][1])
            yield partial(schedule, network, "eager", WHOLE[network][1])
    for network in networks:
        yield from (partial(step, network, "float16", count, runs) for count in BATCHES[network])
    for network in networks:
        for precision in PRECISIONS[1:]:
            yield from (partial(check, network, precision, alone) for alone in (True, False))
    for network in networks:
        for tiles in variants():
            yield partial(step, network, "float16", BATCHES[network][-1], runs, tiles)


def variants() -> list:
    """Other ways to cut the work that may be faster on another GPU."""
    from ridefense.engines.cuda.plan import Tiles

    return [
        Tiles(warps=warps, stages=stages, pixels=pixels, depth=depth)
        for warps in (4, 8)
        for stages, pixels, depth in ((1, 64, 32), (1, 128, 64), (3, 128, 32))
    ]


def pictures(network: str, count: int) -> Tensor:
    """So many images, repeated where the data set has fewer."""
    images = datasets.load(DATA[network], limit=count).images
    return images.repeat(-(-count // len(images)), 1, 1, 1)[:count].cuda()


def fits_of(network: str, images: Tensor, **options):
    from ridefense.engines.cuda.fits import CudaFits

    settings = RIDE.preset("paper", network=network)
    return settings, CudaFits(settings, images, keys_of(images), **options)


def keys_of(images: Tensor) -> Keys:
    return Keys.of(0, None, len(images), images.device)


def check(network: str, precision: str, alone: bool) -> Row:
    """The engine's own check of itself, see `ridefense/engines/cuda/verification.py`."""
    from ridefense.engines.cuda.plan import Tiles
    from ridefense.engines.cuda.verification import examine

    images = pictures(network, 1)[..., :72, :72]
    # Without matrix units products are unrolled: small tiles keep that short.
    tiles = Tiles(pixels=32, depth=16, rows=32) if precision == "float32" else None
    found = examine(
        RIDE.preset("paper", network=network),
        tuple(images.shape[-2:]),
        images.device,
        precision=precision,
        alone=alone,
        tiles=tiles,
    )
    return {
        "kind": "check",
        "network": network,
        "precision": precision,
        "persistent": alone,
        "errors": found.errors,
        "repeats": found.repeats,
        "passed": found.reason is None,
    }


def step(network: str, precision: str, count: int, runs: int, tiles=None) -> Row:
    """Milliseconds of a step of so many images, by the device's own clock."""
    images = pictures(network, count)
    torch.cuda.reset_peak_memory_stats()
    settings, fits = fits_of(network, images, precision=precision, tiles=tiles)
    steps, times = STEPS[network], []
    fits.fit(images, range(steps), [1e-4] * steps)
    for _ in range(runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        fits.fit(images, range(steps), [1e-4] * steps)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / steps)
    one = settings.flops(*images.shape[-2:]) / settings.total_steps
    median = statistics.median(times)
    return {
        "kind": "step",
        "network": network,
        "precision": precision,
        "images": count,
        "tiles": str(tiles or "default"),
        "milliseconds": times,
        "median": median,
        "teraflops": one * count / median / 1e9,
        "megabytes_an_image": torch.cuda.max_memory_allocated() / count / 1e6,
    }


def schedule(network: str, engine: str, count: int) -> Row:
    """A whole `paper` schedule on images with noise of ±0.1, and how near it comes to them."""
    images = pictures(network, count)
    generator = torch.Generator("cuda").manual_seed(0)
    signs = torch.randint(0, 2, images.shape, generator=generator, device="cuda") * 2 - 1
    noisy = (images + 0.1 * signs).clamp(0, 1)
    settings = replace(RIDE.preset("paper", network=network), engine=engine, refits=0)
    replace(settings, steps=4, rounds=1).estimate(noisy)  # compiles what is needed
    torch.cuda.synchronize()
    began = time.perf_counter()
    result = settings.estimate(noisy)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    distances = (result.value - images).abs().flatten(1).mean(dim=1)
    return {
        "kind": "schedule",
        "network": network,
        "engine": result.engine,
        "images": count,
        "seconds": seconds,
        "images_a_second": count / seconds,
        "distance": float(distances.mean()),
        "distance_deviation": float(distances.std()),
        "distance_before": float((noisy - images).abs().mean()),
    }


def machine() -> Row:
    """What the figures were taken on."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gb": properties.total_memory / 1e9,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


if __name__ == "__main__":
    sys.exit(main())
