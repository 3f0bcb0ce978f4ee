"""Networks that remove strong Gaussian noise and have seen no image of a data set.

They are trained on images drawn at random: strokes for handwriting, dead leaves for photographs.
In denoised smoothing (Salman et al. 2020) a denoiser trained on the data set has their place.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ridefense import drawings
from ridefense.errors import InputError
from ridefense.files import write_atomically
from ridefense.noise import derive

Kind = Literal["strokes", "leaves"]
"""What a network was trained on; see `drawings`."""

Progress = Callable[[int, int, float], None]
"""Called after each step with the steps done, the steps in all, and the loss."""

_WEIGHTS = Path(__file__).parent / "weights" / "drawn"
_POOL = 8192  # images that training draws from, shifted and mirrored


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        draw: a number of images, with a generator of random numbers.
        channels: of the images.
        noise: the range of the noise's standard deviation, [0, 1] pixels.
    """

    draw: Callable[[int, torch.Generator], Tensor]
    channels: int
    noise: tuple[float, float]


RECIPES: dict[Kind, Recipe] = {
    "strokes": Recipe(drawings.strokes, 1, (0.25, 1.1)),
    "leaves": Recipe(drawings.leaves, 3, (0.08, 0.6)),
}


class DrawnNetwork(nn.Sequential):
    """Noisy images [N, C, H, W] to clean ones in (0, 1), for even H and W.

    Convolutions at half the resolution, so that a vote costs a quarter of the time; dilated, so
    that a pixel sees 34×34 others. 39,332 weights for one channel, 43,948 for three.

    Args:
        channels: C.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        features = 4 * channels
        for dilation in (1, 1, 2, 2, 1):
            layers += [nn.Conv2d(features, width, 3, padding=dilation, dilation=dilation)]
            layers += [nn.ReLU()]
            features = width
        layers += [nn.Conv2d(features, 4 * channels, 3, padding=1), nn.PixelShuffle(2)]
        super().__init__(*layers, nn.Sigmoid())


def train(
    kind: Kind,
    *,
    seed: int = 0,
    steps: int = 2000,
    batch: int = 64,
    progress: Progress | None = None,
) -> DrawnNetwork:
    """A network that finds drawn images under noise, by the cross-entropy of every pixel.

    Its minimum is the mean of the clean pixel given the noisy image. The rate of Adam falls from
    0.003 to 0 as a cosine.

    Args:
        kind: what is drawn.
        seed: of first weights, drawings and noise.
        steps: of Adam.
        batch: images a step.
        progress: see `Progress`.

    Raises:
        InputError: for another kind.
    """
    recipe = _recipe(kind)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        network = DrawnNetwork(recipe.channels).to(memory_format=torch.channels_last)
    random = torch.Generator().manual_seed(derive(seed, kind))
    count = min(_POOL, steps * batch)
    pool = torch.cat([recipe.draw(256, random) for _ in range(-(-count // 256))])
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    low, high = recipe.noise
    for step in range(steps):
        clean = pool[torch.randint(len(pool), (batch,), generator=random)]
        shift = torch.randint(-3, 4, (2,), generator=random).tolist()
        clean = clean.roll(shift, dims=(2, 3))
        clean = clean.mT if step % 2 else clean
        clean = clean.flip(3) if step % 4 > 1 else clean
        sigma = low + (high - low) * torch.rand(batch, 1, 1, 1, generator=random)
        noisy = clean + sigma * torch.randn(clean.shape, generator=random)
        loss = F.binary_cross_entropy(network(noisy), clean)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # PyTorch does not annotate it
        optimiser.step()
        schedule.step()
        if progress:
            progress(step + 1, steps, loss.item())
    return network.requires_grad_(False).eval()


def save_network(network: DrawnNetwork, path: str | os.PathLike[str]) -> None:
    """Write the weights in float16: a safetensors file of less than 0.1 MB."""
    halves = {key: t.half().contiguous() for key, t in network.state_dict().items()}
    write_atomically(path, save(halves))


def load_network(kind: Kind, path: str | os.PathLike[str] | None = None) -> DrawnNetwork:
    """A network in float32, without gradients for its weights.

    Args:
        kind: what it was trained on.
        path: of a file by `save_network`; by default the weights that ship.

    Raises:
        InputError: for another kind, a missing file, or one that holds no such weights.
    """
    network = DrawnNetwork(_recipe(kind).channels)
    path = Path(path or _WEIGHTS / f"{kind}.safetensors")
    if not path.is_file():
        raise InputError(f"no network at {path}; correct the path or train one")
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{path} holds no weights of a network for {kind}; train one or choose another"
        ) from error
    network = network.to(memory_format=torch.channels_last)
    return network.requires_grad_(False).eval()


def _recipe(kind: Kind) -> Recipe:
    if kind not in get_args(Kind):
        raise InputError(f"kind is {kind!r}; use {' or '.join(get_args(Kind))}")
    return RECIPES[kind]


def main() -> None:
    """Train a network that ships: `python -m ridefense.drawn strokes FILE.safetensors`."""
    parser = argparse.ArgumentParser(description="Train a network that ships.")
    parser.add_argument("kind", choices=get_args(Kind))
    parser.add_argument("path", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)

    def told(step: int, steps: int, loss: float) -> None:
        if step % 100 == 0:
            print(f"step {step} of {steps}, loss {loss:.4f}", flush=True)

    save_network(train(given.kind, progress=told), given.path)


if __name__ == "__main__":
    main()
