"""What the networks of rivals have in common: their training, and the files of their weights."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ridefense.errors import InputError
from ridefense.files import write_atomically
from ridefense.logits import logits_of
from ridefense.noise import derive
from ridefense.rivals.adaptation import in_ball, predicted, signed_steps

WEIGHTS = Path(__file__).parent.parent / "weights" / "rivals"
"""Where the weights are that ship."""

Progress = Callable[[int, int, float], None]
"""Called after each step with the steps done, the steps in all, and the loss."""

Network = TypeVar("Network", bound=nn.Module)


def initialised(build: Callable[[], Network], seed: int) -> Network:
    """A network whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        return build()


def drawn_rows(images: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Which images make up a batch, int64 [count], with replacement."""
    return torch.randint(len(images), (count,), generator=random)


def pixels(images: Tensor) -> Tensor:
    """Images in [0, 1], of uint8 or of floats."""
    return images if images.is_floating_point() else images.float() / 255


def minimise(
    network: nn.Module,
    loss: Callable[[], Tensor],
    *,
    steps: int,
    rate: float,
    progress: Progress | None = None,
) -> None:
    """Train a network, round its weights to float16, as they are saved, and freeze it.

    Adam, whose rate falls to 0 as a cosine.

    Args:
        network: its parameters that require a gradient are trained.
        loss: of a batch of its own, a number.
        steps: of Adam.
        rate: of Adam at the start.
        progress: see `Progress`.
    """
    learnt = [weight for weight in network.parameters() if weight.requires_grad]
    optimiser = torch.optim.Adam(learnt, rate)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        found = loss()
        optimiser.zero_grad()
        torch.autograd.backward(found)
        optimiser.step()
        fall.step()
        if progress:
            progress(step + 1, steps, found.item())
    for weight in learnt:
        weight.data = weight.data.half().float()
    network.requires_grad_(False).eval()


def perturbed(classifier: nn.Module, images: Tensor, eps: float | Tensor, steps: int) -> Tensor:
    """Images attacked by FGSM, or by `steps` steps of it, so that they lose their class.

    Args:
        images: [N, C, H, W] in [0, 1].
        eps: ℓ∞ radius, of all images or [N, 1, 1, 1].
        steps: 1 for FGSM.
    """
    classes = predicted(classifier, images)

    def loss(at: Tensor) -> Tensor:
        return F.cross_entropy(logits_of(classifier, at), classes, reduction="none")

    rate = eps if steps == 1 else 2 * eps / steps
    return signed_steps(loss, images, -rate, steps, in_ball(images, eps))


def save_weights(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write parameters in float16, and buffers as they are, as a safetensors file."""
    learnt = {name for name, _ in network.named_parameters()}
    state = {
        name: (value.half() if name in learnt else value).contiguous()
        for name, value in network.state_dict().items()
    }
    write_atomically(path, save(state))


def load_weights(network: Network, path: str | os.PathLike[str], what: str) -> Network:
    """The network in float32 with the weights of a file, and without gradients for them.

    Args:
        network: of the file's architecture; it is changed.
        path: of a file by `save_weights`.
        what: is called, in errors, as "generator".

    Raises:
        InputError: for a missing file, or one that holds no such weights.
    """
    if not Path(path).is_file():
        raise InputError(f"no {what} at {path}; correct the path or train one")
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{path} holds no {what}'s weights; train one or choose another file"
        ) from error
    return network.requires_grad_(False).eval()
