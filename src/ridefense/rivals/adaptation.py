"""What defences that move the image by the classifier's own gradient have in common."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ridefense.defended import Before
from ridefense.errors import InputError
from ridefense.gradients import GradientMode
from ridefense.images import check_images, moving_with
from ridefense.logits import logits_of
from ridefense.noise import Id, Keys
from ridefense.purifier import purified_by
from ridefense.rivals.base import DefendedInside, Inside
from ridefense.treatment import logits_for

Loss = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] to a loss [N]."""


@dataclass(frozen=True)
class InputAdaptation(Inside):
    """A defence that moves each image by gradients of the classifier, which then classifies it.

    It needs the classifier, so it acts inside it, and as a purifier it returns images as they are.
    An attacker may differentiate the movement: `Identity` takes it as constant (BPDA), `Unrolled`
    differentiates its steps.
    """

    is_dynamic = True

    def moved(self, classifier: nn.Module, images: Tensor, keys: Keys) -> Tensor:
        """Moved images [N, C, H, W], which may leave [0, 1].

        Where the images require a gradient they are connected to it through every step, see
        `signed_steps`.

        Raises:
            InputError: where the classifier has no gradient to move images by.
        """
        with torch.inference_mode(False):
            own = images.clone() if images.is_inference() else images
            return self.move(classifier, own, keys)

    @abstractmethod
    def move(self, classifier: nn.Module, images: Tensor, keys: Keys) -> Tensor:
        """The movement itself, on images that PyTorch can differentiate."""

    def logits(self, classifier: nn.Module, images: Tensor, keys: Keys) -> Tensor:
        return logits_of(classifier, self.moved(classifier, images, keys))

    def behind(
        self, classifier: nn.Module, gradient: GradientMode | None = None, seed: int = 0
    ) -> "AdaptedInput":
        """The classifier on moved images; the classifier itself is not changed."""
        return AdaptedInput(classifier, self, gradient, seed)


class AdaptedInput(DefendedInside):
    """A classifier of moved images, whose movement is differentiated as the gradient mode says."""

    purifier: InputAdaptation

    def classified(self, purified: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
        movement = Movement(self.purifier, self.classifier)
        if torch.is_grad_enabled() and purified.requires_grad:
            moved = self.gradient.views(movement, purified, ids=ids, seed=seed)[-1]
        else:
            moved = purified_by(movement, purified, ids, seed)
        return logits_for(self.classifier, moved, ids, seed)


@dataclass(frozen=True)
class Movement(Before):
    """The movement before a given classifier, as a purifier that gradient modes differentiate."""

    defence: InputAdaptation
    classifier: nn.Module
    differentiable = True
    is_dynamic = True
    takes_raw = True

    @property
    def name(self) -> str:
        return self.defence.name

    @property
    def is_randomised(self) -> bool:
        return self.defence.is_randomised

    def __call__(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        """Moved images [N, C, H, W]; see `InputAdaptation.moved`."""
        return self.raw(images, ids, seed)

    def raw(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        check_images(images, bounded=False)
        keys = Keys.of(seed, ids, len(images), images.device)
        return self.defence.moved(self.classifier, images, keys)


def signed_steps(
    loss: Loss,
    start: Tensor,
    rate: float | Tensor,
    steps: int,
    onto: Callable[[Tensor], Tensor] = lambda images: images,
) -> Tensor:
    """Images after `steps` steps of x ← onto(x - rate · sign ∇loss(x)).

    The sign has no derivative. Where `start` requires a gradient, the result is connected to it
    through every step with that of tanh(g / mean |g|) in its place, which is large where a small
    change of the image turns the sign.

    Args:
        loss: what falls; its negative rises.
        start: [N, C, H, W].
        rate: length of a step in pixels, of all images or [N, 1, 1, 1]; negative to ascend.
        steps: their number; 0 gives `start`.
        onto: a projection after each step, as onto a ball.

    Raises:
        InputError: where the loss does not depend on the images.
    """
    through = torch.is_grad_enabled() and start.requires_grad
    moved = start if through else start.detach().clone()
    for _ in range(steps):
        with torch.enable_grad():
            at = moved if through else moved.detach().requires_grad_()
            slope = _slope(loss(at), at, through)
        with torch.set_grad_enabled(through):
            moved = onto(at - rate * _sign(slope, through))
    return moved


def in_ball(centre: Tensor, eps: float | Tensor) -> Callable[[Tensor], Tensor]:
    """The projection onto pixels within `eps` of those of `centre`, and within [0, 1]."""
    low, high = (centre.detach() - eps).clamp_min(0), (centre.detach() + eps).clamp_max(1)

    def project(images: Tensor) -> Tensor:
        inside = images.detach().clamp(low, high)
        # A pixel that is cut moves with the centre; `cut_to_range` says why it does at 0 and 1 too.
        return torch.where(inside == images.detach(), images, moving_with(inside, centre))

    return project


def predicted(classifier: nn.Module, images: Tensor) -> Tensor:
    """The classes [N] that a classifier gives images."""
    with torch.no_grad():
        return logits_of(classifier, images).argmax(dim=1)


def _slope(loss: Tensor, at: Tensor, through: bool) -> Tensor:
    if not loss.requires_grad:
        raise InputError(
            "the classifier has no gradient for the defence to move images by; "
            "let it compute its logits in PyTorch, without detach or rounding"
        )
    (slope,) = torch.autograd.grad(loss.sum(), at, create_graph=through)
    return slope


def _sign(slope: Tensor, through: bool) -> Tensor:
    if not through:
        return slope.sign()
    scale = slope.detach().abs().flatten(1).mean(dim=1).clamp_min(torch.finfo(slope.dtype).tiny)
    return moving_with(slope.sign(), torch.tanh(slope / scale.view(-1, 1, 1, 1)))
