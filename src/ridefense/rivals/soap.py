"""SOAP of Shi, Holtz & Mishne, "Online Adversarial Purification based on Self-Supervision"
(ICLR 2021), with the rotation of the image as its auxiliary task, and the task's training."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ridefense.errors import InputError, check_positive, check_whole
from ridefense.files import write_atomically
from ridefense.logits import logits_of, name_of
from ridefense.noise import Keys, derive
from ridefense.rivals.adaptation import InputAdaptation, in_ball, signed_steps

TURNS = 4
"""Rotations that the auxiliary task tells apart: by 0, 90, 180 and 270 degrees."""

SHIPPED = Path(__file__).parent.parent / "weights" / "rivals" / "mnist-soap-rotation.safetensors"
"""The head that was trained together with the classifier `mnist-cnn-soap`; benchmarks/soap.py."""

Progress = Callable[[int, int, float], None]
"""Called after each step with the steps done, the steps in all, and the step's loss."""


@dataclass(frozen=True)
class SOAP(InputAdaptation):
    """The image, moved so that a self-supervised task finds it easier.

    `steps` steps of x ← Π(x - `rate` · sign ∇L_aux(x)), Π the projection onto the ℓ∞ ball of radius
    `eps` around the image and [0, 1]. L_aux is the cross-entropy of recognising by how many quarter
    turns the image is rotated, from the features that the classifier's last linear layer reads.

    Attributes:
        eps: radius of the ball, ε_pfy.
        steps: T of the purifier of several steps. 0 leaves the bare classifier.
        rate: γ, length of a step; by default a quarter of `eps`.
        head: of the auxiliary task, by `train_rotation` or `load_head`; by default the one that
            ships, for `mnist-cnn-soap`.
    """

    eps: float = 0.1
    steps: int = 5
    rate: float | None = None
    head: nn.Linear | None = None
    is_randomised = False

    def __post_init__(self) -> None:
        check_positive("eps", self.eps)
        check_whole("steps", self.steps, 0)
        if self.rate is not None:
            check_positive("rate", self.rate)
        if not isinstance(self.head, nn.Linear | None):
            raise InputError(f"head is {self.head!r}; use load_head(path)")

    def move(self, classifier: nn.Module, images: Tensor, keys: Keys) -> Tensor:
        head = _shipped() if self.head is None else self.head
        rate = self.eps / 4 if self.rate is None else self.rate
        return signed_steps(
            lambda at: rotation_loss(classifier, head, at),
            images,
            rate,
            self.steps,
            in_ball(images, self.eps),
        )


def rotation_loss(classifier: nn.Module, head: nn.Linear, images: Tensor) -> Tensor:
    """L_aux: the cross-entropy [N] of telling the four rotations of each image, their mean.

    Raises:
        InputError: for a classifier without a linear layer, or one of other features than the head
            reads, and images that are not square.
    """
    if images.shape[2] != images.shape[3]:
        raise InputError(f"images are {tuple(images.shape)}; SOAP turns square images")
    turned = torch.cat([images.rot90(k, (2, 3)) for k in range(TURNS)])
    with features_of(classifier) as seen:
        logits_of(classifier, turned)
    wanted = torch.arange(TURNS, device=images.device).repeat_interleave(len(images))
    features = seen[-1]
    if features.shape != (len(turned), head.in_features):
        raise InputError(
            f"{name_of(classifier)} has features {list(features.shape)}, the head of SOAP's task "
            f"reads {head.in_features}; train one for this classifier by train_rotation"
        )
    logits = F.linear(features, head.weight.to(features), head.bias.to(features))
    losses = F.cross_entropy(logits, wanted, reduction="none")
    return losses.view(TURNS, -1).mean(dim=0)


@contextmanager
def features_of(classifier: nn.Module) -> Iterator[list[Tensor]]:
    """What the classifier's last linear layer reads, of every call inside: [N, features]."""
    layers = [layer for layer in classifier.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise InputError(f"{name_of(classifier)} has no linear layer; choose another classifier")
    seen: list[Tensor] = []
    hook = layers[-1].register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def train_rotation(
    classifier: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    epochs: int = 6,
    batch: int = 64,
    rate: float = 1e-3,
    weight: float = 0.5,
    progress: Progress | None = None,
) -> nn.Linear:
    """The head of the auxiliary task, trained together with the classifier, as in the paper.

    The loss is CE(f(x), y) + `weight` · L_aux(x), by Adam, whose rate falls to 0. Weights of the
    classifier that require no gradient stay as they are: of a frozen one the head alone is learnt.

    Args:
        classifier: pixels to logits; it is changed.
        images: [N, C, H, H], uint8 or floats in [0, 1].
        labels: int64 [N].
        seed: of the head's first weights and the order of the images.
        epochs: passes over the images.
        batch: images a step.
        rate: Adam's at the start.
        weight: of the task in the loss.
        progress: see `Progress`.
    """
    with torch.no_grad(), features_of(classifier) as seen:
        classifier(_pixels(images[:1]))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        head = nn.Linear(seen[0].shape[1], TURNS)
    learnt = [*head.parameters(), *(w for w in classifier.parameters() if w.requires_grad)]
    optimiser = torch.optim.Adam(learnt, rate)
    random = torch.Generator().manual_seed(derive(seed, "training"))
    steps = epochs * -(-len(images) // batch)
    fall = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    done = 0
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(images), generator=random), batch):
            pixels = _pixels(images[rows])
            loss = F.cross_entropy(classifier(pixels), labels[rows])
            loss = loss + weight * rotation_loss(classifier, head, pixels).mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            fall.step()
            done += 1
            if progress:
                progress(done, steps, loss.item())
    return head.requires_grad_(False).eval()


def _pixels(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else images.float() / 255


def save_head(head: nn.Linear, path: str | os.PathLike[str]) -> None:
    """Write a head as a safetensors file."""
    write_atomically(path, save({k: t.contiguous() for k, t in head.state_dict().items()}))


def load_head(path: str | os.PathLike[str] = SHIPPED) -> nn.Linear:
    """A head, without gradients for its weights.

    Raises:
        InputError: for a missing file, or one that holds no such weights.
    """
    if not Path(path).is_file():
        raise InputError(f"no head at {path}; correct the path or train one")
    try:
        state = load_file(path)
        head = nn.Linear(state["weight"].shape[1], TURNS)
        head.load_state_dict(state)
    except (SafetensorError, RuntimeError, LookupError) as error:
        raise InputError(f"{path} holds no head's weights; train one or choose another") from error
    return head.requires_grad_(False).eval()


@lru_cache(maxsize=1)
def _shipped() -> nn.Linear:
    return load_head()
