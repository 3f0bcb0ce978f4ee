"""Stochastic activation pruning of Dhillon et al. (ICLR 2018)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ridefense.errors import InputError, check_positive
from ridefense.noise import Keys, Stream
from ridefense.rivals.base import Inside


@dataclass(frozen=True)
class ActivationPruning(Inside):
    """SAP: after every ReLU, most small activations are set to 0 and the others enlarged.

    Of a layer's activations h, r are drawn with replacement, each with probability
    p = |h| / Σ|h|. Those never drawn become 0, the others h / (1 - (1 - p)^r), so that the
    expectation is h (algorithm 1). The weights stay as they are.

    The derivative takes the factors as given, as that of dropout does: its expectation is the
    bare layer's. Differentiating 1 - (1 - p)^r as well would make the derivative of small
    activations vanish, which is a weaker attack.

    Attributes:
        share: r as a share of the number of activations; 1 is the paper's SAP-100.
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        check_positive("share", self.share)

    def logits(self, classifier: nn.Module, images: Tensor, keys: Keys) -> Tensor:
        layers = [m for m in classifier.modules() if isinstance(m, nn.ReLU | nn.ReLU6)]
        if not layers:
            raise InputError(
                f"{type(classifier).__name__} has no ReLU module to prune after; choose another"
            )
        calls = 0

        def prune(_layer: nn.Module, _inputs: object, h: Tensor) -> Tensor:
            nonlocal calls  # one ReLU module may serve several layers
            calls += 1
            return h * self.factors(h, keys, calls)

        hooks = [layer.register_forward_hook(prune) for layer in layers]
        try:
            logits: Tensor = classifier(images)
            return logits
        finally:
            for hook in hooks:
                hook.remove()

    def factors(self, h: Tensor, keys: Keys, layer: int) -> Tensor:
        """What activations [N, ...] are multiplied with, 0 or at least 1; no derivative."""
        sizes = h.detach().flatten(1).double().abs()
        draws = max(1, round(self.share * sizes.shape[1]))
        p = sizes / sizes.sum(dim=1, keepdim=True).clamp_min(torch.finfo(sizes.dtype).tiny)
        steps = p.cumsum(dim=1)
        drawn = keys.uniform(Stream.DROPOUT, [layer], draws)[:, 0] * steps[:, -1:]
        chosen = torch.searchsorted(steps, drawn, right=True).clamp_max(p.shape[1] - 1)
        kept = torch.zeros_like(p).scatter_(1, chosen, 1.0)
        # 1 - (1 - p)^r, exact for the smallest p too.
        probability = -torch.expm1(draws * torch.log1p(-p))
        # What is 0 is never drawn, unless all are: then nothing is pruned that could be seen.
        factors = torch.where(p > 0, kept / probability, 0.0)
        return factors.view_as(h).to(h.dtype)
