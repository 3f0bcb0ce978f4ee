"""Mirages inside the classifier: in its features, its layers, its exits."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ridefense.calibration.hiding import with_gradient
from ridefense.calibration.outputs import replacing
from ridefense.classifiers import Classifier
from ridefense.noise import Keys, Stream
from ridefense.rivals.base import Inside


class FeatureNoise(Inside):
    """Every activation times a random factor of mean 1, which its gradient takes without the 1."""

    def logits(self, classifier: nn.Module, images: Tensor, keys: Keys) -> Tensor:
        calls = 0

        def disturb(_layer: nn.Module, _inputs: object, h: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            drawn = keys.uniform(Stream.DROPOUT, [calls], h[0].numel()).view(h.shape).to(h)
            same = h * (1 + 1e-4 * (2 * drawn - 1))
            return same.detach() + (2 * drawn - 1) * (h - h.detach())

        layers = [m for m in classifier.modules() if isinstance(m, nn.ReLU)]
        hooks = [layer.register_forward_hook(disturb) for layer in layers]
        try:
            found: Tensor = classifier(images)
            return found
        finally:
            for hook in hooks:
                hook.remove()


class Activations(nn.Module):
    """A network whose activations something is done to, in every ReLU."""

    def __init__(self, network: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        for layer in network.modules():
            if isinstance(layer, nn.ReLU):
                layer.register_forward_hook(lambda _layer, _inputs, h: change(h))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(images)
        return found


class EarlyExit(nn.Module):
    """A network that leaves by an exit of constant outputs where it is confident."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        best = logits.topk(2, dim=1).values
        certain = (best[:, :1] - best[:, 1:]) > 0.5
        constant = 20 * F.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits)
        return torch.where(certain, constant, logits)


class Detector(nn.Module):
    """A network with a detector that refuses, by NaN, images that differ from their purified copy.

    The copy is the image, so nothing is refused. The distance is a root, whose derivative at 0 is
    not finite.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        distance = (images - images.detach().clone()).square().flatten(1).sum(dim=1).sqrt()
        return logits + torch.where(distance > 0.1, torch.nan, distance)[:, None]


def quantised() -> Classifier:
    """Activations rounded to 1e-4: no derivative."""
    return replacing(lambda net: Activations(net, lambda h: (h * 1e4).round() / 1e4), "quantised")


def detached() -> Classifier:
    """Activations cut off from the graph."""
    return replacing(lambda net: Activations(net, Tensor.detach), "detached")


def flipped() -> Classifier:
    """Activations whose gradient has another sign in every other feature."""
    return replacing(lambda net: Activations(net, _flip), "flipped")


def early_exit() -> Classifier:
    return replacing(EarlyExit, "early_exit")


def detector() -> Classifier:
    return replacing(Detector, "detector")


def _flip(h: Tensor) -> Tensor:
    signs = torch.ones_like(h[0]).flatten()
    signs[::2] = -1
    return with_gradient(h, lambda gradient: gradient * signs.view(h.shape[1:]))
