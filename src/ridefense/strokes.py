"""A denoiser of handwriting that has seen none: a network trained on strokes drawn at random.

No image of a data set is used. Strokes are cubic Bézier curves of random place, bend, width and
ink, and the network learns to find them under Gaussian noise. Denoised smoothing (Salman et al.
2020) has a denoiser that was trained on the data set in its place.
"""

import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ridefense.errors import InputError
from ridefense.files import write_atomically
from ridefense.noise import derive

SIDE = 28
"""Height and width of the drawn images."""

SHIPPED = Path(__file__).parent / "weights" / "strokes.safetensors"
"""Weights of a `StrokeNetwork` that `train` made with its defaults."""

NOISE = (0.25, 1.1)
"""The range of the noise's standard deviation in training, [0, 1] pixels."""

_STROKES = (1.0, 0.75, 0.5, 0.3)  # the chance that an image has the first stroke, the second, …
_POINTS = 24  # of a curve
_POOL = 8192  # images that training draws from, shifted and mirrored

Progress = Callable[[int, int, float], None]
"""Called after each step with the steps done, the steps in all, and the loss."""


class StrokeNetwork(nn.Sequential):
    """Noisy images [N, 1, H, W] to ink [N, 1, H, W] in (0, 1), for even H and W: 39,332 weights.

    Convolutions at half the resolution, so that a vote costs a quarter of the time; dilated, so
    that a pixel sees 34×34 others.
    """

    def __init__(self, width: int = 32) -> None:
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        channels = 4
        for dilation in (1, 1, 2, 2, 1):
            layers += [nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation)]
            layers += [nn.ReLU()]
            channels = width
        layers += [nn.Conv2d(channels, 4, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid()]
        super().__init__(*layers)


def draw(count: int, random: torch.Generator) -> Tensor:
    """Images of one to four strokes, float32 [count, 1, 28, 28] in [0, 1]."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=random)

    t = torch.linspace(0, 1, _POINTS)[:, None]
    bernstein = torch.cat(
        ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3), dim=1
    )  # [points, 4]
    place = torch.arange(SIDE, dtype=torch.float32)
    pixels = torch.cartesian_prod(place, place)  # [pixels, 2]
    half_width, ink = 0.8 + uniform(1), 0.8 + 0.4 * uniform(1)
    image, last = torch.zeros(count, SIDE * SIDE), None
    for chance in _STROKES:
        drawn = uniform(1) < chance
        start = 4 + 20 * uniform(2)
        if last is not None:
            start = torch.where(uniform(1) < 0.6, last, start)  # where the stroke before ended
        end = torch.where(uniform(1) < 0.2, start, 4 + 20 * uniform(2))  # now and then a loop
        bend = torch.where(uniform(1) < 0.5, 10.0, 4.0)[..., None]
        inner = [
            start + (end - start) * share + bend[:, 0] * torch.randn(count, 2, generator=random)
            for share in (1 / 3, 2 / 3)
        ]
        control = torch.stack((start, *inner, end), dim=1).clamp(3, 24)  # [count, 4, 2]
        distance = _distance(pixels, torch.einsum("tk,nkd->ntd", bernstein, control))
        stroke = ink * torch.sigmoid(3 * (half_width - distance))
        image = torch.maximum(image, stroke * drawn)
        last = end
    return image.clamp(0, 1).view(count, 1, SIDE, SIDE)


def train(
    *, seed: int = 0, steps: int = 2000, batch: int = 64, progress: Progress | None = None
) -> StrokeNetwork:
    """A network that finds strokes under noise: cross-entropy of every pixel's ink.

    The rate of Adam falls from 0.003 to 0 as a cosine.

    Args:
        seed: of first weights, strokes and noise.
        steps: of Adam.
        batch: images a step.
        progress: see `Progress`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        network = StrokeNetwork().to(memory_format=torch.channels_last)
    random = torch.Generator().manual_seed(derive(seed, "strokes"))
    count = min(_POOL, steps * batch)
    pool = torch.cat([draw(256, random) for _ in range(-(-count // 256))])
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    low, high = NOISE
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


def save_network(network: StrokeNetwork, path: str | os.PathLike[str]) -> None:
    """Write the weights in float16: a safetensors file of 79 kB."""
    halves = {key: t.half().contiguous() for key, t in network.state_dict().items()}
    write_atomically(path, save(halves))


def load_network(path: str | os.PathLike[str] = SHIPPED) -> StrokeNetwork:
    """A network in float32, without gradients for its weights.

    Raises:
        InputError: for a missing file, or one that holds no such weights.
    """
    if not Path(path).is_file():
        raise InputError(f"no network at {path}; correct the path or train one")
    network = StrokeNetwork()
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{path} holds no weights of a stroke network; train one or choose another"
        ) from error
    network = network.to(memory_format=torch.channels_last)
    return network.requires_grad_(False).eval()


def _distance(pixels: Tensor, curve: Tensor) -> Tensor:
    """Of every pixel [P, 2] to the nearest point of each curve [N, T, 2]: [N, P]."""
    return torch.cdist(pixels.expand(len(curve), -1, -1), curve).amin(dim=2)


def main() -> None:
    """Train the network that ships: `python -m ridefense.strokes FILE.safetensors`."""
    import sys

    torch.set_num_threads(1)

    def told(step: int, steps: int, loss: float) -> None:
        if step % 100 == 0:
            print(f"step {step} of {steps}, loss {loss:.4f}", flush=True)

    save_network(train(progress=told), sys.argv[1])


if __name__ == "__main__":
    main()
