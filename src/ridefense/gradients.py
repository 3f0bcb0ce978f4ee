"""How an attacker differentiates a purifier: modes, each an object, and which suits a purifier.

Eq. 3 of the paper: ∂g/∂x = [I, ∇ω]·∇g, where ω is the whole fit of a network to x. BPDA replaces
it by the identity; the paper holds that ∇ω is out of reach. A mode's `views` are the purified
images [M, N, C, H, W], connected to the input as the mode says. The last view is the defender's
real output; an attacker averages its loss over all of them. Where steps of the fit are
differentiated, they run in eager, and the view is the output to the rounding of those steps, which
long fits amplify: of a defender that runs in eager too it is exact.

FrozenWeights, Truncated and Unrolled are one thing: of the fit's K·T steps, the last k are
differentiated (none, some, all). The steps before them run on the fastest engine, and the earlier
estimates are taken to move with the input as BPDA takes them to.
"""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ridefense import counting, engines
from ridefense.describe import Plain, describe_by_weights
from ridefense.engines.differentiable import TailFits
from ridefense.errors import InputError, check_whole
from ridefense.estimate import estimate
from ridefense.images import moving_with
from ridefense.noise import Id, Keys
from ridefense.purifier import GradientMode as GradientMode
from ridefense.purifier import Purifier, purified_by
from ridefense.settings import FitsNetworks, Settings, settings_for

_log = logging.getLogger(__name__)


def sees_the_image(purifier: Purifier) -> bool:
    """Whether it fits a network whose input is the image, so that the network has a gradient."""
    return isinstance(purifier, FitsNetworks) and purifier.noisy_input


def best_gradient(purifier: Purifier) -> GradientMode:
    """The mode that attacks are strongest through, of those that an attack of many steps affords.

    The exact derivative where PyTorch has it, that of the fitted network where the image is its
    input, and otherwise the identity.
    """
    if purifier.differentiable:
        return Unrolled()
    return FrozenWeights() if sees_the_image(purifier) else Identity()


@dataclass(frozen=True)
class Identity(GradientMode):
    """BPDA (Athalye et al. 2018), the paper's attack: ∂(purified)/∂(input) = I."""

    def views(
        self,
        purify: Purifier,
        images: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
    ) -> Tensor:
        purified = purified_by(purify, images.detach(), ids, seed).detach()
        return moving_with(purified, images)[None]


@dataclass(frozen=True)
class Trajectory(GradientMode):
    """The identity at all T intermediate estimates x_est^(t): M = T views."""

    def views(
        self,
        purify: Purifier,
        images: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
    ) -> Tensor:
        settings = settings_for(purify, images)
        if settings is None:
            return Identity().views(purify, images, ids=ids, seed=seed)
        with counting.purification(len(images)):
            purified = estimate(settings, images.detach(), ids=ids, seed=seed)
        earlier = purified.x_est[:-1].to(images.dtype)
        return moving_with(torch.cat((earlier, purified.value[None])), images)


@dataclass(frozen=True)
class Truncated(GradientMode):
    """Differentiate the last `steps` steps of the fit, and its output.

    Args:
        steps: 0 ≤ steps; more than the fit has is all of it.
    """

    steps: int

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, 0)

    @property
    def name(self) -> str:
        return f"Truncated({self.steps})"

    @property
    def purifications(self) -> float:
        return 1 + self.steps / 20  # differentiating 20 steps takes about as long as a fit

    def views(
        self,
        purify: Purifier,
        images: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
    ) -> Tensor:
        return _through_the_fit(purify, images, ids, seed, self.steps)


@dataclass(frozen=True)
class FrozenWeights(GradientMode):
    """Fit w, then differentiate h(z; w) with respect to its input alone: ∇g without ∇ω.

    Pixels that a network without a sigmoid leaves outside [0, 1] are cut, and pass no gradient;
    those of `attacks.HeldWeights` do.
    """

    def views(
        self,
        purify: Purifier,
        images: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
    ) -> Tensor:
        return _through_the_fit(purify, images, ids, seed, 0)


@dataclass(frozen=True)
class Unrolled(GradientMode):
    """Exact: differentiate the whole fit, noise held fixed, checkpointed every √(K·T) steps.

    For a purifier that fits no network, PyTorch's own derivative of it; the identity for one that
    has none.
    """

    @property
    def purifications(self) -> float:
        return 6.0

    def views(
        self,
        purify: Purifier,
        images: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
    ) -> Tensor:
        if purify.differentiable or settings_for(purify, images) is None:
            purified = purified_by(purify, images, ids, seed)
            if images.requires_grad and not purified.requires_grad:
                _log.warning(
                    "PyTorch finds no derivative of %s; the identity is taken for it", purify.name
                )
                purified = moving_with(purified, images)
            return purified[None]
        return _through_the_fit(purify, images, ids, seed, None)


@dataclass(frozen=True)
class Surrogate(GradientMode):
    """The derivative of a network that imitates the purifier, see `train_surrogate`."""

    network: nn.Module

    def described(self) -> Plain:
        """See `ridefense.describe`."""
        return {"type": "Surrogate", "network": describe_by_weights(self.network)}

    def views(
        self,
        purify: Purifier,
        images: Tensor,
        *,
        ids: Sequence[Id] | None = None,
        seed: int = 0,
    ) -> Tensor:
        purified = purified_by(purify, images.detach(), ids, seed).detach()
        return moving_with(purified, self.network(images))[None]


def train_surrogate(
    purify: Purifier,
    images: Tensor,
    *,
    seed: int = 0,
    width: int = 32,
    epochs: int = 200,
    eps: float = 0.3,
) -> nn.Module:
    """A small feed-forward network that imitates a purifier on and around these images.

    Args:
        purify: the purifier; it is run once on every image, clean and with uniform noise of ±eps.
        images: [N, C, H, W], pixels in [0, 1]; disjoint from those that will be attacked.
        seed: of the noise, the initial weights and the order of the pairs.
        width: channels of its five convolutions.
        epochs: passes over the pairs, Adam at 1e-3.
        eps: of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone()
        noise = (2 * torch.rand(images.shape, generator=generator) - 1) * eps
        inputs = torch.cat((images, (images + noise.to(images)).clamp(0, 1)))
        targets = purify(inputs, seed=seed).detach()
        network = imitator(images.shape[1], width, seed).to(images)
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
        for _ in range(epochs):
            order = torch.randperm(len(inputs), generator=generator)
            for rows in torch.split(order, 64):
                loss = (network(inputs[rows]) - targets[rows]).square().mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    return network.requires_grad_(False).eval()


def imitator(channels: int, width: int = 32, seed: int = 0) -> nn.Sequential:
    """The untrained network of `train_surrogate`: five 3×3 convolutions, then a sigmoid."""
    sizes = (channels, width, width, width, width, channels)
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for c_in, c_out in itertools.pairwise(sizes):
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Sigmoid())


def _through_the_fit(
    purify: Purifier, images: Tensor, ids: Sequence[Id] | None, seed: int, steps: int | None
) -> Tensor:
    """The purified images, with the last `steps` steps differentiated; None means all."""
    fitted = settings_for(purify, images)
    if fitted is None:
        raise InputError(
            f"{purify.name} fits nothing to differentiate; use Identity or Surrogate with it"
        )

    tail = fitted.total_steps if steps is None else steps

    def start(settings: Settings, x: Tensor, keys: Keys) -> tuple[str, engines.Fits]:
        return "differentiable", TailFits(settings, x, keys, tail)

    with counting.purification(len(images)):
        found = estimate(fitted, images, ids=ids, seed=seed, start=start, differentiable=True)
    return found.value[None]
