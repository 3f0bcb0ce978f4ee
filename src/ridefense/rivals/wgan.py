"""The generator behind Defense-GAN, and its training: WGAN-GP (Gulrajani et al., NeurIPS 2017)."""

import os

import torch
from torch import Tensor, nn

from ridefense.errors import InputError
from ridefense.noise import derive
from ridefense.rivals.learning import (
    WEIGHTS,
    Progress,
    drawn_rows,
    load_weights,
    pixels,
    save_weights,
)

LATENT = 64
"""Length of a latent vector, whose prior is standard normal."""

SHIPPED = WEIGHTS / "mnist-wgan.safetensors"
"""Weights of a `Generator` trained by `train_generator` on MNIST; docs/rivals.md says how."""


class Generator(nn.Sequential):
    """Latent vectors [N, 64] to digits [N, 1, 28, 28] in (0, 1): 131,009 weights.

    The layers of Samangouei et al. 2018 (a linear one, three transposed 5×5 convolutions), with an
    eighth of their channels.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(LATENT, 64 * 4 * 4),
            nn.ReLU(),
            nn.Unflatten(1, (64, 4, 4)),
            nn.ConvTranspose2d(64, 32, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 5, stride=2, padding=2, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 5, stride=2, padding=2, output_padding=1),
            nn.Sigmoid(),
        )


def save_generator(generator: Generator, path: str | os.PathLike[str]) -> None:
    """Write the weights in float16: a safetensors file of 0.3 MB."""
    save_weights(generator, path)


def load_generator(path: str | os.PathLike[str] = SHIPPED) -> Generator:
    """A generator, by default the one that ships; see `learning.load_weights`."""
    return load_weights(Generator(), path, "generator")


def train_generator(
    images: Tensor,
    *,
    seed: int = 0,
    steps: int = 3000,
    critic_steps: int = 2,
    batch: int = 32,
    rate: float = 4e-4,
    progress: Progress | None = None,
) -> Generator:
    """A generator of images like these, trained against a critic with a gradient penalty of 10.

    The original takes 200,000 steps at a constant 1e-4, each with 5 of the critic. This short form
    lets the rate fall to 0 and keeps the moving average (decay 0.995) of the generator's weights.

    Args:
        images: [N, 1, 28, 28], uint8 or floats in [0, 1].
        seed: of first weights, batches and noise.
        steps: of the generator.
        critic_steps: of the critic before each of those.
        batch: images a step.
        rate: Adam's at the start, with β = (0.5, 0.9).
        progress: is told the loss of the critic; see `learning.Progress`.

    Raises:
        InputError: for images of another shape.
    """
    if images.shape[1:] != (1, 28, 28):
        raise InputError(f"images have shape {tuple(images.shape)}; pass [N, 1, 28, 28]")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        generator, critic = Generator(), _critic()
    random = torch.Generator().manual_seed(derive(seed, "training"))
    average = {name: t.clone() for name, t in generator.state_dict().items()}
    optimisers = [torch.optim.Adam(m.parameters(), rate, (0.5, 0.9)) for m in (generator, critic)]
    fall = [torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, steps) for o in optimisers]

    def generated() -> Tensor:
        made: Tensor = generator(torch.randn(batch, LATENT, generator=random))
        return made

    for step in range(steps):
        for _ in range(critic_steps):
            real = pixels(images[drawn_rows(images, batch, random)])
            with torch.no_grad():
                fake = generated()
            mixed = real.lerp(fake, torch.rand(batch, 1, 1, 1, generator=random))
            loss = critic(fake).mean() - critic(real).mean() + 10 * _penalty(critic, mixed)
            _descend(optimisers[1], loss)
        _descend(optimisers[0], -critic(generated()).mean())
        # A shorter memory at first, so that the average forgets the first weights.
        decay = min(0.995, (1 + step) / (10 + step))
        for name, value in generator.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        for schedule in fall:
            schedule.step()
        if progress:
            progress(step + 1, steps, loss.item())
    generator.load_state_dict(average)
    return generator.requires_grad_(False).eval()


def _critic() -> nn.Module:
    """Digits to a score: the generator's layers backwards."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 5, stride=2, padding=2),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 1),
    )


def _penalty(critic: nn.Module, images: Tensor) -> Tensor:
    """Mean squared distance of the critic's gradient norm to 1."""
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return (norms - 1).square().mean()


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # PyTorch does not type it
    optimiser.step()
