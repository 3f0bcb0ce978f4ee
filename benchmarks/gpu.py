"""Check the GPU engine's kernels against eager in float64, then time them; needs an NVIDIA GPU.

    python benchmarks/gpu.py --out gpu.json [--networks mnist cifar10 imagenet] [--runs 5]

Three kinds of rows: "check", errors of one run beside the oracle; "step", the time of a step;
"schedule", a whole `paper` schedule with its quality. Without a GPU it exits with status 3.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ridefense import RIDE, datasets
from ridefense.engines.eager import EagerFits
from ridefense.noise import Keys

NO_GPU = 3
DATA = {"mnist": "digits", "cifar10": "foolbox-cifar10", "imagenet": "foolbox-imagenet"}
# Images a batch, few and many; of a whole schedule, the engine's and eager's.
BATCHES = {"mnist": (1, 132, 1056), "cifar10": (1, 132, 528), "imagenet": (1, 8, 32)}
WHOLE = {"mnist": (1056, 64), "cifar10": (264, 16), "imagenet": (16, 0)}
STEPS = {"mnist": 400, "cifar10": 200, "imagenet": 40}
# Of an error relative to the norm of what was expected. Coarse operands flip a few ReLUs, which
# shows in gradients far above the rounding itself.
TOLERANCE = {"float32": 1e-4, "tf32": 5e-2, "float16": 5e-2, "bfloat16": 1.5e-1}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--networks", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--precisions", nargs="+", default=["float16"], choices=TOLERANCE)
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device is present: nothing was checked or timed")
        return NO_GPU
    rows = []
    for network in options.networks:
        rows += [check(network, p, alone) for p in TOLERANCE for alone in (False, True)]
        for precision in options.precisions:
            for count in BATCHES[network]:
                rows.append(step(network, precision, count, options.runs))
        count = BATCHES[network][-1]
        rows += [step(network, "float16", count, options.runs, tiles) for tiles in variants()]
        rows += [schedule(network, "cuda", WHOLE[network][0])]
        if WHOLE[network][1]:
            rows += [schedule(network, engine, WHOLE[network][1]) for engine in ("cuda", "eager")]
    options.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    return 0 if all(row.get("passed", True) for row in rows) else 1


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


def check(network: str, precision: str, alone: bool) -> dict[str, object]:
    """Losses, every layer's gradient and the output of a first step; repeats of some steps.

    A result that changes between runs, or with its neighbours, is a race.
    """
    from ridefense.engines.cuda.plan import Tiles

    images = pictures(network, 3)[..., :72, :72]
    # Without matrix units products are unrolled: small tiles keep that short.
    small = {"tiles": Tiles(pixels=32, depth=16, rows=32)} if precision == "float32" else {}
    options = {"precision": precision, "alone": alone} | small
    settings, fits = fits_of(network, images, **options)
    oracle = EagerFits(settings, images.double(), keys_of(images))
    expected = oracle.fit(images.double(), range(1), [1e-4])
    errors = {"loss": error(fits.fit(images, range(1), [1e-4]), expected)}
    sizes = [9 * c_in * c_out + c_out for c_in, c_out in settings.network.convolutions]
    for layer, parts in enumerate(
        zip(fits.moments[0].split(sizes, 1), oracle.moments[0].split(sizes, 1), strict=True), 1
    ):
        errors[f"gradient {layer}"] = error(*parts)
    for dropout in (False, True):
        value = fits.output(images, 1, 4, dropout=dropout)
        expected = oracle.output(images.double(), 1, 4, dropout=dropout)
        errors[f"output, dropout {dropout}"] = error(value, expected)
    twice = [fits_of(network, images, **options)[1] for _ in range(2)]
    one = fits_of(network, images[:1], **options)[1]
    for f, own in ((twice[0], images), (twice[1], images), (one, images[:1])):
        f.fit(own, range(150), [1e-3] * 150)
    same = torch.equal(twice[0].weights, twice[1].weights)
    same &= torch.equal(twice[0].weights[:1], one.weights)
    row = {
        "kind": "check",
        "network": network,
        "precision": precision,
        "persistent": alone,
        "errors": errors,
        "repeats": same,
        "passed": same and max(errors.values()) < TOLERANCE[precision],
    }
    print(row, flush=True)
    return row


def error(value: Tensor, expected: Tensor) -> float:
    return float((value.double() - expected).norm() / expected.norm())


def step(network: str, precision: str, count: int, runs: int, tiles=None) -> dict[str, object]:
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
    row = {
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
    print(row, flush=True)
    return row


def schedule(network: str, engine: str, count: int) -> dict[str, object]:
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
    row = {
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
    print(row, flush=True)
    return row


def machine() -> dict[str, object]:
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
