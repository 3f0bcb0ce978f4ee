"""Make the weights of init="pretrained": one network of Table 3 fitted on many images.

    python benchmarks/pretrain.py [mnist] [cifar10] [imagenet]

The fitting loop itself, with one change: every step looks at another image. It minimises the
DAE's objective (Eq. 7) over a training split, and no label is read. Writes
src/ridefense/weights/pretrained/NETWORK.safetensors; the same seed gives the same weights on the
same processor.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from ridefense import DAE, NETWORKS, datasets, engines
from ridefense.noise import Keys, derive

OUT = Path(__file__).parents[1] / "src" / "ridefense" / "weights" / "pretrained"
SEED = 0


@dataclass(frozen=True)
class Recipe:
    """What a network is fitted on.

    Attributes:
        dataset, split: as `datasets.load` takes them; disjoint from whatever is reported.
        steps: of Adam, one image each, its rate falling from `rate` to 0 as a cosine.
        crop: pixels a side of a step's random crop; None for the whole image.
    """

    dataset: str
    split: str
    steps: int
    rate: float
    crop: int | None = None


RECIPES = {
    "mnist": Recipe("digits", "train", 20_000, 1e-3),
    "cifar10": Recipe("cifar10", "train", 20_000, 1e-3),
    "imagenet": Recipe("foolbox-imagenet", "test", 20_000, 1e-3, crop=48),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(RECIPES), help=", ".join(RECIPES))
    OUT.mkdir(parents=True, exist_ok=True)
    for network in parser.parse_args().networks:
        recipe = RECIPES[network]
        weights, losses = pretrain(network, recipe)
        path = OUT / f"{network}.safetensors"
        about = {"recipe": str(recipe), "seed": str(SEED)}
        save_file({"weights": weights.float().contiguous()}, path, metadata=about)
        tail = losses[-recipe.steps // 10 :].mean()
        print(f"{network}: {NETWORKS[network].size} weights, last losses {tail:.5f}")


def pretrain(network: str, recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights [P] and the loss of every step."""
    settings = replace(
        DAE.preset("paper", network=network),
        steps=recipe.steps,
        rounds=1,
        learning_rate=recipe.rate,
        decay="cosine",
        mask_ratio=0.0,
        weight_decay=0.0,
        init="kaiming",
        crop=recipe.crop,
    )
    part = datasets.load(recipe.dataset, recipe.split, limit=5000)
    order = sorted(range(len(part)), key=lambda i: derive(SEED, "order", i))
    images = part.images[order]
    _, fits = engines.start(settings, images[:1], Keys.of(SEED, None, 1, images.device))
    losses = []
    for step in range(recipe.steps):
        image = images[step % len(images)][None]
        losses.append(fits.fit(image, range(step, step + 1), [settings.rate(step)]))
    return fits.weights[0], torch.cat(losses).flatten()


if __name__ == "__main__":
    main()
