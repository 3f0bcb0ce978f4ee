"""What the outputs of a classifier are, where they are no logits."""

import torch
from torch import Tensor

OUTPUTS = {
    "probabilities": "returns probabilities, not logits; attacks use their logarithms",
    "log-probabilities": "returns log-probabilities; attacks use them as logits",
    "saturated": "returns probabilities that round to 0 and 1; attacks use a loss that does not "
    "vanish there",
    "squashed": "returns outputs that a sigmoid or tanh has squashed; attacks undo it",
    "decisions": "returns decisions without scores; attacks estimate a gradient from its answers",
    "votes": "returns shares of votes; attacks estimate a gradient from its answers",
    "rounded": "returns rounded outputs; attacks estimate a gradient from its answers",
    "half precision": "returns outputs of 16 bits, whose losses are rounded",
    "huge": "returns outputs of huge scale; attacks use a loss free of scale",
    "tiny": "returns outputs that are all but equal; attacks use a loss free of scale",
    "offset": "returns outputs far from 0 beside their range, which rounding has cut",
    "constant": "returns the same outputs for every image",
}
"""What may be found of outputs, and what attacks make of it."""

_HUGE, _TINY, _OFFSET = 1e3, 1e-2, 1e3
_GRAINS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01)
_VOTERS = 101


def of_outputs(outputs: Tensor) -> tuple[str, ...]:
    """What outputs [N, classes] of several images are, as names of `OUTPUTS`."""
    if not outputs.isfinite().all():
        return ()
    found = []
    if outputs.dtype in (torch.float16, torch.bfloat16):
        found.append("half precision")
    z = outputs.double()
    low, high = z.aminmax(dim=1)
    spread = float((high - low).median())
    if len(z) > 1 and torch.equal(z, z[:1].expand_as(z)):
        found.append("constant")
    kind = _kind(z)
    if kind:
        return (*found, kind)
    if spread > _HUGE:
        found.append("huge")
    if spread < _TINY:
        found.append("tiny")
    if float(z.mean().abs()) > _OFFSET * max(spread, 1e-300):
        found.append("offset")
    return tuple(found)


def _kind(z: Tensor) -> str:
    """What outputs are instead of logits; empty where they may be logits."""
    sums = z.sum(dim=1)
    are_shares = bool((z >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())
    if all(len(row.unique()) == 2 and int((row == row.amax()).sum()) == 1 for row in z):
        return "votes" if are_shares and bool((z.amax(dim=1) < 1 - 1e-3).any()) else "decisions"
    if are_shares:
        if any(_are_votes(z, voters) for voters in range(2, _VOTERS)):
            return "votes"
        return "saturated" if bool((z.amax(dim=1) > 1 - 1e-6).any()) else "probabilities"
    if bool((z.logsumexp(dim=1).abs() < 1e-3).all()):
        return "log-probabilities"
    if bool((z.abs() < 1 + 1e-5).all()) and float(z.abs().amax()) > 0.999:
        return "squashed"
    if any(_is_grained(z, grain) for grain in _GRAINS):
        return "rounded"
    return ""


def _are_votes(z: Tensor, voters: int) -> bool:
    """Whether shares are those of so many votes: multiples, none smaller than one vote."""
    least = float(z[z > 1e-7].min())
    counts = z * voters
    is_divided = bool((z.amax(dim=1) < 1 - 0.5 / voters).any())
    return (
        is_divided
        and least > 0.99 / voters
        and bool(((counts - counts.round()).abs() < 1e-4).all())
    )


def _is_grained(z: Tensor, grain: float) -> bool:
    """Whether all outputs are multiples of a grain, to the rounding of float32."""
    counts = z / grain
    most = float(counts.abs().amax())
    return 2 < most < 1e4 and bool(((counts - counts.round()).abs() < 1e-3).all())
