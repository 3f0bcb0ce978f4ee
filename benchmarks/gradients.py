"""What each gradient mode is worth, and what the exact gradient costs.

    python benchmarks/gradients.py --out gradients.json [--part PART] [--images 4]

direction: on MNIST digits with uniform noise of ε 0.1, RIDE's preset "fast". The reference is the
gradient of the expected margin (the loss of Carlini & Wagner) over the purifier's noise, by central
differences of ±0.05 in each of the 49 squares of 4×4 pixels, the same noise on both sides. A mode's
gradient, averaged over as many draws, is summed over the same squares, and the cosine between both
is taken. Half of the draws against the other half say how exact the reference itself is. The slope
is that of the expected margin along the mode's signs, which is the way PGD steps.

length: on clean digits, one draw: the size of the gradient through the last k steps of a preset's
schedule, of which the whole is the exact one, and its cosine to `FrozenWeights`'.

cost: the exact gradient of one digit for schedules of rising length; thread time and peak memory,
each in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ridefense import RIDE, Defended, classifiers, datasets
from ridefense.attacks import UniformNoise, margin
from ridefense.gradients import (
    FrozenWeights,
    GradientMode,
    Identity,
    Trajectory,
    Truncated,
    Unrolled,
)
from ridefense.memory import peak_megabytes
from ridefense.models import views

MODES: tuple[GradientMode, ...] = (
    Identity(),
    Trajectory(),
    FrozenWeights(),
    *(Truncated(k) for k in (1, 5, 10, 20)),
    Unrolled(),
)
SQUARE, REACH, STEP = 4, 0.05, 0.02
"""Pixels a side, the difference, and the step along which slopes are taken."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--part", choices=("cost", "direction", "length"), default="direction")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--preset", default="fast", help="of --part length")
    parser.add_argument(
        "--steps",
        type=int,
        nargs="+",
        help="of --part cost, of whole schedules; of --part length, the last ones",
    )
    parser.add_argument("--double", action="store_true", help="of --part cost: in float64")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        print(json.dumps(cost(options.one, options.double)))
        return
    found = (options.out.exists() and json.loads(options.out.read_text())) or {}
    rows = found.setdefault(options.part, [])
    if options.part == "direction":
        for row in range(len(rows), options.images):
            rows.append(direction(row, options.draws))
            options.out.write_text(json.dumps(found, indent=1) + "\n")
            print(rows[-1])
        return
    if options.part == "length":
        for steps in options.steps or [1, 5, 10, 20, 50, 100]:
            rows.append(length(options.preset, steps, options.images))
            options.out.write_text(json.dumps(found, indent=1) + "\n")
            print(rows[-1], flush=True)
        return
    for steps in options.steps or [100, 500, 2500]:
        command = [sys.executable, __file__, "--out", str(options.out), "--one", str(steps)]
        command += ["--double"] * options.double
        rows.append(json.loads(subprocess.run(command, check=True, stdout=-1).stdout))
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(rows[-1])


def cost(steps: int, double: bool) -> dict[str, float]:
    """One exact gradient of one digit through a fit of so many steps in five rounds."""
    model, x, label, _ = _case(0)
    if double:
        model, x = model.double(), x.double()
    purify = replace(RIDE.preset("paper", network="mnist"), steps=steps // 5, refits=0)
    warm = replace(purify, steps=2)
    for settings in (warm, purify):
        before = peak_megabytes()
        began, wall = time.thread_time(), time.perf_counter()
        defended = Defended(model, settings, Unrolled())
        own = x.clone().requires_grad_()
        loss = margin(views(defended, own, [0], 0)[-1], label)
        forward = time.thread_time() - began
        (gradient,) = torch.autograd.grad(loss.sum(), own)
        grown = peak_megabytes() - before
    return {
        "steps": settings.total_steps,
        "forward seconds": forward,
        "seconds": time.thread_time() - began,
        "wall seconds": time.perf_counter() - wall,
        "megabytes": grown,
        "mean absolute gradient": float(gradient.abs().mean()),
    }


def length(preset: str, steps: int, images: int) -> dict[str, object]:
    """Gradients of the margin through the last steps of a preset's schedule, image by image."""
    model, purify = classifiers.load("mnist-cnn"), RIDE.preset(preset, network="mnist")
    part = datasets.load("mnist", "test", images, 1)
    frozen, through = (
        _gradient(Defended(model, purify, mode), part.images, part.labels, part.ids.tolist(), [0])
        for mode in (FrozenWeights(), Truncated(steps))
    )
    return {
        "preset": preset,
        "steps": steps,
        "of": purify.total_steps,
        "mean absolute gradient": through.abs().flatten(1).mean(dim=1).tolist(),
        "cosine": torch.cosine_similarity(through.flatten(1), frozen.flatten(1)).tolist(),
    }


def direction(row: int, draws: int) -> dict[str, object]:
    """Cosines and slopes of every mode at one digit."""
    model, x, label, id_ = _case(row)
    purify = RIDE.preset("fast", network="mnist")
    seeds = list(range(draws))

    def expected(images: Tensor) -> Tensor:
        """Margin of images [M, C, H, W], each over the same draws: [M, draws]."""
        seen = []
        with torch.no_grad():
            for seed in seeds:
                defended = Defended(model, purify)
                logits = [
                    views(defended, part, [id_] * len(part), seed)[-1] for part in images.split(50)
                ]
                seen.append(margin(torch.cat(logits), label.expand(len(images))))
        return torch.stack(seen, dim=1)

    side = x.shape[-1] // SQUARE
    squares = torch.eye(side * side).view(-1, 1, side, side)
    squares = squares.repeat_interleave(SQUARE, 2).repeat_interleave(SQUARE, 3) * REACH
    points = torch.cat((x + squares, x - squares)).clamp(0, 1)
    ahead, behind = expected(points).view(2, len(squares), draws)
    slopes = (ahead - behind) / (2 * REACH)
    reference = slopes.mean(dim=1)
    halves = [slopes[:, part::2].mean(dim=1) for part in (0, 1)]
    middle = expected(x)
    found: dict[str, object] = {
        "image": id_,
        "margin": float(middle.mean()),
        "agreement of halves": _cosine(*halves),
    }
    for mode in MODES:
        began = time.thread_time()
        gradient = _gradient(Defended(model, purify, mode), x, label, [id_], seeds)
        seconds = (time.thread_time() - began) / draws
        summed = torch.nn.functional.avg_pool2d(gradient, SQUARE).flatten() * SQUARE**2
        moved = (x + STEP * gradient.sign()).clamp(0, 1)
        found[mode.name] = {
            "cosine": _cosine(summed, reference),
            "rise": float((expected(moved) - middle).mean()),
            "mean absolute gradient": float(gradient.abs().mean()),
            "seconds a draw": seconds,
        }
    return found


def _case(row: int) -> tuple[torch.nn.Module, Tensor, Tensor, int]:
    """Classifier, a noisy digit, its label and id."""
    model = classifiers.load("mnist-cnn")
    part = datasets.load("mnist", "test", 100, 2)[row : row + 1]
    ids = part.ids.tolist()
    noisy = UniformNoise(eps=0.1)(model, part.images, part.labels, ids=ids)
    return model, noisy, part.labels, ids[0]


def _gradient(
    defended: Defended, x: Tensor, labels: Tensor, ids: list[int], seeds: list[int]
) -> Tensor:
    """The mode's gradient of each image's margin, averaged over draws."""
    total = torch.zeros_like(x)
    for seed in seeds:
        own = x.clone().requires_grad_()
        seen = views(defended, own, ids, seed)
        mean = torch.stack([margin(logits, labels) for logits in seen]).mean(dim=0)
        total += torch.autograd.grad(mean.sum(), own)[0] / len(seeds)
    return total


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


if __name__ == "__main__":
    main()
