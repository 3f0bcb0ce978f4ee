"""Recovered accuracy against work: from a thousandth of the paper's to all of it.

    python benchmarks/frontier.py mnist --out frontier.jsonl [--schedules fast paper] [--images 100]
        [--attacks clean gray bpda]

Appends a row for every (schedule, attack, image) that the file lacks, so it can be stopped and
started again; frontier_table.py makes docs/schedule.md's tables and plots of it. No image is used
that a schedule was chosen on (`SEARCHED`). Seconds are processor time on one thread.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from ridefense import RIDE, Defended, classifiers, datasets
from ridefense.attacks import FGSM, PGD, Attack

SEARCHED = {"limit": 100, "seed": 11}
"""How the images were drawn on which schedules were chosen, of the same split where it is used."""


@dataclass(frozen=True)
class Field:
    """Where a network's schedules are compared.

    Attributes:
        dataset, classifier: as `datasets.load` and `classifiers.load` take them.
        searched: the data set on whose test split schedules were chosen.
        gray: attacks on the bare classifier, by name.
        bpda: attacks through the defence.
        batch: images at once.
    """

    dataset: str
    classifier: str
    searched: str
    gray: dict[str, Attack]
    bpda: dict[str, Attack]
    batch: int


FIELDS = {
    "mnist": Field(
        "digits",
        "digits-cnn",
        "mnist",
        {f"PGD {e}": PGD(eps=e) for e in (0.1, 0.2, 0.3)},
        {f"BPDA {e}": PGD(eps=e) for e in (0.2, 0.1, 0.3)},
        25,
    ),
    "cifar10": Field(
        "cifar10-jpeg75",
        "cifar10-resnet18",
        "cifar10-jpeg75",
        {f"PGD {e}": PGD(eps=e) for e in (0.031, 0.05)},
        {f"BPDA {e}": PGD(eps=e) for e in (0.05, 0.031)},
        16,
    ),
    "imagenet": Field(
        "imagenet",
        "efficientnet-lite0",
        "imagenet",
        {"FGSM 0.015": FGSM(eps=0.015), "PGD 0.015": PGD(eps=0.015)},
        {"BPDA 0.05": PGD(eps=0.05)},
        4,
    ),
}

_START = {"mask_ratio": 0.0, "init": "xavier"}
SCHEDULES = {
    "10 steps": {**_START, "steps": 5, "rounds": 2, "learning_rate": 1e-2, "samples": 1},
    "30 steps": {**_START, "steps": 6, "rounds": 5, "learning_rate": 7e-3, "samples": 2},
    "fast, Adam's state kept": {
        **_START, "steps": 10, "rounds": 10, "learning_rate": 4e-3, "samples": 2,
    },
    "200 steps": {**_START, "steps": 20, "rounds": 10, "learning_rate": 3e-3, "samples": 2},
    "500 steps at 1e-3": {"steps": 100, "learning_rate": 1e-3},
    "2500 steps at 1e-3": {"steps": 500, "learning_rate": 1e-3},
    "500 steps at 1e-4": {"steps": 100},
    "pretrained, no fit": {
        "steps": 1, "rounds": 1, "learning_rate": 0.0, "init": "pretrained", "samples": 8,
    },
    "pretrained, 100 steps": {
        "mask_ratio": 0.0, "init": "pretrained", "steps": 20, "learning_rate": 3e-4, "samples": 4,
    },
}  # fmt: skip
"""Changes to the preset "paper", beside the presets themselves."""


def schedule(name: str, network: str) -> RIDE:
    if name in SCHEDULES:
        return replace(RIDE.preset("paper", network=network), **SCHEDULES[name])
    return RIDE.preset(name, network=network)


def operations(settings: RIDE, height: int, width: int) -> float:
    """Counted operations of an estimate: the fit's, and the forward passes of x_est's samples."""
    once = replace(settings, steps=1, rounds=1, batch=1, crop=None)
    return settings.flops(height, width) + settings.rounds * settings.samples * (
        once.flops(height, width) / 3
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=FIELDS)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines to append to")
    parser.add_argument("--schedules", nargs="+", default=["fast", "warm", *SCHEDULES, "paper"])
    parser.add_argument("--attacks", nargs="+", default=["clean", "gray"], help="clean, gray, bpda")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--classifier", help="another than the field's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    field = FIELDS[options.network]
    part = images_of(field, options.images)
    source = options.classifier or field.classifier
    classifier = classifiers.load(source)
    attacks = attacks_of(field, options.attacks)
    done = {(r["schedule"], r["attack"], r["image"]) for r in rows_of(options.out)}
    adversarial: dict[tuple[str, int], Tensor] = {}
    for name in options.schedules:
        about = {"network": options.network, "classifier": Path(source).name, "schedule": name}
        settings = schedule(name, options.network)
        for start, attack in product(range(0, len(part), field.batch), attacks):
            chunk = part[start : start + field.batch]
            missing = {i for i in chunk.ids.tolist() if (name, attack, i) not in done}
            if not missing:
                continue
            rows = measure(field, settings, classifier, chunk, attack, adversarial)
            lines = [
                json.dumps(about | {"attack": attack} | row) + "\n"
                for row in rows
                if row["image"] in missing
            ]
            with options.out.open("a") as file:
                file.writelines(lines)
        print(f"{options.network}, {name}: {len(part)} images", flush=True)


def images_of(field: Field, count: int) -> datasets.Dataset:
    """The first images of seed 0's draw that no schedule was chosen on."""
    part = datasets.load(field.dataset, "test")
    if field.dataset == field.searched:
        searched = datasets.load(field.searched, "test", **SEARCHED).ids
        part = part[(~torch.isin(part.ids, searched)).nonzero().flatten()]
    return part.drawn(count)


def rows_of(path: Path) -> Iterator[dict]:
    """Rows of a file that may end in the middle of one."""
    for line in path.read_text().splitlines() if path.exists() else []:
        yield json.loads(line)


def attacks_of(field: Field, kinds: list[str]) -> list[str]:
    names = {"clean": ["clean"], "gray": list(field.gray), "bpda": list(field.bpda)}
    return [name for kind in kinds for name in names[kind]]


def measure(
    field: Field,
    settings: RIDE,
    classifier: torch.nn.Module,
    chunk: datasets.Dataset,
    attack: str,
    adversarial: dict[tuple[str, int], Tensor],
) -> list[dict]:
    """Attack a chunk, purify it and classify it: one row an image."""
    images, labels, ids = chunk.images, chunk.labels, chunk.ids.tolist()
    if attack == "clean":
        attacked = images
    elif attack in field.bpda:
        defended = Defended(classifier, settings)
        attacked = field.bpda[attack](defended, images, labels, ids=ids)
    else:
        key = (attack, ids[0])
        if key not in adversarial:
            adversarial[key] = field.gray[attack](classifier, images, labels, ids=ids)
        attacked = adversarial[key]
    began = time.process_time()
    result = settings.estimate(attacked, ids=ids, seed=1)
    seconds = (time.process_time() - began) / len(ids)
    with torch.no_grad():
        bare, defended = (classifier(x).argmax(dim=1) for x in (attacked, result.value))
    distance = (result.value - images).abs().flatten(1).mean(dim=1)
    work = operations(settings, *images.shape[-2:])
    return [
        {
            "image": ids[i],
            "label": int(labels[i]),
            "bare": int(bare[i]),
            "prediction": int(defended[i]),
            "distance": round(float(distance[i]), 5),
            "refits": int(result.attempts[i]),
            "operations": work * (1 + int(result.attempts[i])),
            "seconds": round(seconds, 5),
            "engine": result.engine,
        }
        for i in range(len(ids))
    ]


if __name__ == "__main__":
    main()
