"""The reference engine: PyTorch on a CPU or CUDA, float32 or float64, all images in one batch.

Each step is a function of (weights, moments, x) and of the counter-based streams, so it can be
differentiated (`gradients.py`) and recomputed (checkpointing), and other engines are tested
against it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ridefense.engines.base import Progress, Size, fitted_size, image_size, initial_state
from ridefense.networks import Keep
from ridefense.noise import Keys, Stream
from ridefense.settings import Settings

BETAS, EPS = (0.9, 0.999), 1e-8
# Steps whose numbers are drawn in one go: enough to hide the cost of small tensor operations.
_DRAWN_AT_ONCE = 2**21


@dataclass(frozen=True)
class Step:
    """The random numbers of one step, for N images and n samples.

    Attributes:
        inputs: noise to be added to x, or the fixed input itself, [N, n, C, H, W].
        targets: noise to be added to x, likewise; None unless it is independent of the input's.
        kept: 1 at pixels that the loss keeps and 0 elsewhere, [N, n, 1, H, W].
        units: the units that dropout keeps.
        corners: top and left of the crop, int64 [N, 2]; None where the whole image is fitted.
    """

    inputs: Tensor
    targets: Tensor | None
    kept: Tensor
    units: Keep
    corners: Tensor | None


@dataclass(frozen=True)
class Draws:
    """The random numbers of some steps, see `Step`: tensors [N, steps, …]."""

    inputs: Tensor
    targets: Tensor | None
    kept: Tensor
    units: "_Units"
    corners: Tensor | None

    def at(self, index: int) -> Step:
        """Those of one step."""
        return Step(
            self.inputs[:, index],
            None if self.targets is None else self.targets[:, index],
            self.kept[:, index],
            self.units.at(index),
            None if self.corners is None else self.corners[:, index],
        )


class EagerFits:
    """N networks being fitted, see `engines.Fits`."""

    def __init__(self, settings: Settings, images: Tensor, keys: Keys) -> None:
        self.settings, self.keys = settings, keys
        self.weights, self.moments = initial_state(settings, images, keys)

    def fit(
        self,
        x: Tensor,
        steps: range,
        rates: Sequence[float],
        start: int = 0,
        progress: Progress | None = None,
    ) -> Tensor:
        size = fitted_size(self.settings, x)
        pixels = size[0] * size[1] * len(x) * self.settings.batch
        chunk = max(1, min(32, _DRAWN_AT_ONCE // (pixels * 16)))
        losses = []
        for first in range(0, len(steps), chunk):
            part = steps[first : first + chunk]
            draws = draw(self.settings, self.keys, part, size, x)
            for i, step in enumerate(part):
                loss, self.weights, self.moments = take_step(
                    self.settings,
                    (self.weights, self.moments),
                    x,
                    draws.at(i),
                    rates[first + i],
                    step + 1 - start,
                )
                losses.append(loss)
            if progress:
                progress(len(x) * len(losses), len(x) * len(steps))
        return torch.stack(losses, dim=1) if losses else x.new_zeros(len(x), 0)

    def output(
        self,
        x: Tensor,
        step: int,
        samples: int,
        *,
        stream: Stream | None = Stream.OUTPUT,
        dropout: bool = False,
    ) -> Tensor:
        return expected_output(
            self.settings, self.keys, self.weights, x, step, samples, stream, dropout
        )


def draw(settings: Settings, keys: Keys, steps: Sequence[int], size: Size, like: Tensor) -> Draws:
    """Draw every number of these steps, each image from its own streams.

    Args:
        size: height and width of what a step fits.
        like: images of the dtype and size that are fitted, [N, C, image height, image width].
    """
    samples, channels = range(settings.batch), settings.network.channels[0]
    pixels = size[0] * size[1]

    def stacked(one_sample: Callable[[int], Tensor]) -> Tensor:
        return torch.stack([one_sample(j) for j in samples], dim=2)

    targets = corners = None
    if settings.target_noise == "independent":
        noise = stacked(
            lambda j: keys.normal_by_pixel(Stream.TARGET, steps, channels, pixels, sample=j)
        )
        targets = noise.to(like.dtype).reshape(*noise.shape[:4], *size)
    kept = stacked(lambda j: keys.kept_pixels(steps, pixels, settings.mask_ratio, sample=j))
    if settings.crop:
        words = keys.words(Stream.CROP, steps, 1)[:, :, 0, :2]
        room = torch.tensor(like.shape[-2:], device=words.device) - settings.crop + 1
        corners = (words * room) >> 32
    return Draws(
        _inputs(settings, keys, steps, size, like, samples, Stream.INPUT),
        targets,
        kept.to(like.dtype).reshape(*kept.shape[:3], 1, *size),
        _Units(settings, keys, steps, samples),
        corners,
    )


class _Units:
    """Units that dropout keeps, drawn for a layer when the network first asks for them.

    The layer's size is then known without a second description of the network's shapes.
    """

    def __init__(
        self, settings: Settings, keys: Keys, steps: Sequence[int], samples: range
    ) -> None:
        self.rate = settings.network.dropout
        self.keys, self.steps, self.samples = keys, steps, samples
        self.drawn: dict[int, Tensor] = {}

    def at(self, index: int) -> Keep:
        """Those of one step."""

        def keep(layer: int, channels: int, height: int, width: int) -> Tensor:
            if layer not in self.drawn:
                self.drawn[layer] = self._draw(layer, channels, height, width)
            return self.drawn[layer][:, index]

        return keep

    def _draw(self, layer: int, channels: int, height: int, width: int) -> Tensor:
        """Bool [N, steps, n, channels, height, width]."""
        pixels = height * width
        units = [
            self.keys.kept_units(layer, self.steps, channels, pixels, self.rate, sample=j)
            for j in self.samples
        ]
        kept = torch.stack(units, dim=2)
        return kept.reshape(*kept.shape[:4], height, width)


def _inputs(
    settings: Settings,
    keys: Keys,
    steps: Sequence[int],
    size: Size,
    like: Tensor,
    samples: range,
    stream: Stream,
) -> Tensor:
    """Noise to be added to x, or the fixed input itself: [N, steps, n, C, H, W]."""
    shape = (settings.network.channels[0], *size)
    n = math.prod(shape)
    if settings.noisy_input:
        values = [keys.normal(stream, steps, n, sample=j) for j in samples]
    else:
        values = [keys.uniform(Stream.FIXED, [0], n).expand(-1, len(steps), -1) for _ in samples]
    drawn = torch.stack(values, dim=2).to(like.dtype)
    return drawn.reshape(*drawn.shape[:3], *shape)


def loss_of(settings: Settings, weights: Tensor, x: Tensor, draws: Step) -> Tensor:
    """The denoising loss of one step, one number an image (Eq. 7, masked): [N]."""
    if draws.corners is not None:
        x = torch.stack(
            [
                image[:, top : top + settings.crop, left : left + settings.crop]
                for image, (top, left) in zip(x, draws.corners.tolist(), strict=True)
            ]
        )
    x = x[:, None]
    inputs = fed(settings, x, draws.inputs)
    targets = x if draws.targets is None else x + per_channel(settings.sigmas, x) * draws.targets
    if settings.target_noise == "recorrupted":
        targets = recorrupted(settings, x, inputs)
    outputs = settings.network.forward(weights, inputs, draws.units)
    squares = ((outputs - targets).square() * draws.kept).flatten(1).sum(dim=1)
    if settings.loss == "norm":
        return squares.sqrt()
    return squares / (x.shape[2] * draws.kept.flatten(1).sum(dim=1))


def fed(settings: Settings, x: Tensor, noise: Tensor) -> Tensor:
    """The network's input z: x with this noise, or a fixed input itself."""
    return x + per_channel(settings.input_sigmas, x) * noise if settings.noisy_input else noise


def recorrupted(settings: Settings, x: Tensor, inputs: Tensor) -> Tensor:
    """The target x - σ·n/a that shares the noise of the input x + a·σ·n."""
    return x - (inputs - x) / settings.recorruption**2


def per_channel(values: Sequence[float], like: Tensor) -> Tensor:
    """Values of each channel, [C, 1, 1], of the dtype and device of `like`."""
    return like.new_tensor(values).view(-1, 1, 1)


def take_step(
    settings: Settings,
    state: tuple[Tensor, Tensor],
    x: Tensor,
    draws: Step,
    rate: float,
    t: int,
    *,
    differentiable: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Adam on every image's own network.

    Args:
        state: weights [N, P] and moments [3, N, P].
        rate: the learning rate.
        t: the number of steps since Adam's state was zero, this one included.
        differentiable: whether the result stays connected to `state` and x.

    Returns:
        Losses [N], and the new weights and moments.
    """
    weights, moments = state
    with torch.enable_grad():
        if differentiable:
            # x may hang on these very weights (a new round's does), which is no part of the
            # step's gradient: it is taken with respect to a copy.
            weights = weights.clone()
        else:
            weights, x = weights.detach().requires_grad_(), x.detach()
        loss = loss_of(settings, weights, x, draws)
        (gradient,) = torch.autograd.grad(loss.sum(), weights, create_graph=differentiable)
    if not differentiable:
        weights, loss = weights.detach(), loss.detach()
    gradient = gradient + settings.weight_decay * weights
    first = BETAS[0] * moments[0] + (1 - BETAS[0]) * gradient
    second = BETAS[1] * moments[1] + (1 - BETAS[1]) * gradient.square()
    largest = torch.maximum(moments[2], second) if settings.amsgrad else moments[2]
    scale = largest if settings.amsgrad else second
    # √0 has no derivative: a unit that is dead for good has no gradient, and takes no step.
    alive = scale > 0
    root = torch.where(alive, scale, 1.0).sqrt() * alive
    root = root / math.sqrt(1 - BETAS[1] ** t)
    weights = weights - rate / (1 - BETAS[0] ** t) * first / (root + EPS)
    return loss, weights, torch.stack((first, second, largest))


def expected_output(
    settings: Settings,
    keys: Keys,
    weights: Tensor,
    x: Tensor,
    step: int,
    samples: int,
    stream: Stream | None = Stream.OUTPUT,
    dropout: bool = False,
) -> Tensor:
    """E_z h(z; w) (Eq. 6), differentiable in the weights and in x: [N, C, H, W].

    Without a stream the input carries no noise.
    """
    size, js = image_size(x), range(samples)
    if stream is None and settings.noisy_input:
        inputs = x[:, None].expand(-1, samples, -1, -1, -1)
    else:
        drawn = Stream.OUTPUT if stream is None else stream
        inputs = fed(
            settings, x[:, None], _inputs(settings, keys, [step], size, x, js, drawn)[:, 0]
        )
    keep = _Units(settings, keys, [step], js).at(0) if dropout else None
    return settings.network.forward(weights, inputs, keep).mean(dim=1)


def denoising_loss(settings: Settings, keys: Keys, weights: Tensor, x: Tensor, step: int) -> Tensor:
    """L_DAE(x; w) (Eq. 7) over all pixels, from `settings.samples` draws of the CHECK stream: [N].

    Dropout is on, as in training. Noise of the target that is independent of the output adds
    exactly its variance.
    """
    size, js = image_size(x), range(settings.samples)
    noise = _inputs(settings, keys, [step], size, x, js, Stream.CHECK)[:, 0]
    inputs = fed(settings, x[:, None], noise)
    keep = _Units(settings, keys, [step], js).at(0)
    with torch.no_grad():
        outputs = settings.network.forward(weights, inputs, keep)
    targets = x[:, None]
    if settings.target_noise == "recorrupted":
        targets = recorrupted(settings, targets, inputs)
    loss = (outputs - targets).square().flatten(1).mean(dim=1)
    if settings.target_noise == "independent":
        loss = loss + per_channel(settings.sigmas, x).square().mean()
    return loss
