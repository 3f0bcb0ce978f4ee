"""The paper's experiments at its own scale, as records, for as long as a GPU is lent.

    python benchmarks/gpu_paper.py --out DIR [--seconds 400] [--device cuda] [--dry-run]

Each experiment is an evaluation with a run folder below DIR: the most valuable first, the full
schedule of 10,000 steps, one draw a final image. A run that is cut off keeps its rows, and the same
command goes on with it. CIFAR-10 takes a ResNet-18 that is trained first, below DIR too, unless
RIDEFENSE_DATA has one. `--dry-run` shortens every schedule, takes two images of each and any
device, to rehearse. Without a GPU it exits with status 3.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from ridefense import DAE, DIP, IDIP, RIDE, InputError, RideError, classifiers, datasets
from ridefense.attacks import PGD
from ridefense.estimators import Estimator
from ridefense.evaluate import Evaluation, Threat, run
from ridefense.gradients import Identity

NO_GPU = 3
RESNET = "cifar10-resnet18"
CIFAR10 = "cifar10-jpeg75"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry-run", action="store_true", help="two images, two steps a round")
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        print("no CUDA device is present: nothing was run")
        return NO_GPU
    until = time.monotonic() + options.seconds

    def stop_in_time(*_: object) -> None:
        if time.monotonic() > until:
            raise TimeoutError

    for name, evaluation in experiments(options.device):
        if options.dry_run:
            evaluation = short(evaluation)
        try:
            stop_in_time()
            if evaluation.classifier == RESNET:
                trained = resnet(options.out, options.device, stop_in_time, options.dry_run)
                evaluation = replace(evaluation, classifier=trained)
            began = time.monotonic()
            found = run(evaluation, options.out / name, progress=stop_in_time)
            print(f"{name}: {len(found.rows)} rows, {time.monotonic() - began:.0f} s", flush=True)
        except TimeoutError:
            print(f"the time is over at {name}; the same command goes on", flush=True)
            return 0
        except RideError as error:  # data or weights that this machine lacks
            print(f"{name} is left out: {error}", flush=True)
    return 0


def experiments(device: str) -> Iterator[tuple[str, Evaluation]]:
    """The name of its folder and the evaluation of each, the most valuable first."""
    cifar10 = {"dataset": CIFAR10, "classifier": RESNET, "device": device, "batch": 100}
    photographs = {
        "dataset": "imagenet",
        "classifier": "efficientnet-lite0",
        "device": device,
        "batch": 8,
    }
    digits = {"dataset": "digits", "classifier": "digits-cnn", "device": device, "batch": 500}

    def of(
        kind: type[Estimator], network: str, limit: int, *radii: float, **where: object
    ) -> Evaluation:
        threats = tuple(Threat(attack=PGD(eps=eps), gradient=Identity()) for eps in radii)
        purifier = kind.preset("paper", network=network)
        return Evaluation(purifier=purifier, threats=threats, limit=limit, draws=1, **where)

    yield "cifar10-bpda", of(RIDE, "cifar10", 200, 0.031, 0.05, **cifar10)
    yield "photographs-bpda", of(RIDE, "imagenet", 24, 0.05, **photographs)
    yield "photographs-clean", of(RIDE, "imagenet", 100, **photographs)
    for kind in (DAE, IDIP, DIP):
        name = f"photographs-{kind.__name__.lower()}"
        yield name, of(kind, "imagenet", 24, 0.05, **photographs)
    yield "digits-bpda", of(RIDE, "mnist", 1000, 0.1, 0.2, 0.3, **digits)


def resnet(out: Path, device: str, progress: object, dry_run: bool) -> str:
    """A ResNet-18 for CIFAR-10: that of RIDEFENSE_DATA, or one that is trained below `out`."""
    with suppress(InputError):
        classifiers.load(RESNET)
        return RESNET
    path = out / f"{RESNET}.safetensors"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        images = datasets.load(CIFAR10, "train", limit=64 if dry_run else None)
        trained = classifiers.train(
            RESNET,
            images,
            epochs=1 if dry_run else None,
            checkpoint=out / f"{RESNET}.checkpoint",
            device=device,
            progress=progress,
        )
        classifiers.save(trained, path)
    return str(path)


def short(evaluation: Evaluation) -> Evaluation:
    """The same in seconds on a CPU: for rehearsals."""
    purifier = replace(evaluation.purifier, steps=2, samples=1, refits=0)
    threats = tuple(replace(t, attack=replace(t.attack, steps=1)) for t in evaluation.threats)
    changes = {"purifier": purifier, "threats": threats, "limit": 2, "batch": 2}
    return replace(evaluation, **changes)


if __name__ == "__main__":
    sys.exit(main())
