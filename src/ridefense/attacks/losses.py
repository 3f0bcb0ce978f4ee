"""What an attacker maximises: a loss of every image, from logits and labels.

Each takes logits [N, classes] and labels int64 [N] and returns [N]; it rises as the image gets
nearer to being misclassified. With `targets` int64 [N] it rises as the image gets nearer to being
taken for its target.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ridefense.errors import InputError

Loss = Callable[..., Tensor]
"""(logits, labels, targets=None) to one loss an image."""


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """-log p(label), or log p(target)."""
    if targets is None:
        return F.cross_entropy(logits, labels, reduction="none")
    return -F.cross_entropy(logits, targets, reduction="none")


def margin(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Largest other logit, or the target's, minus the label's (Carlini & Wagner 2017, f₆).

    Without targets it is positive for exactly the misclassified images.
    """
    rival = _best_other(logits, labels) if targets is None else _of(logits, targets)
    return rival - _of(logits, labels)


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log((1 - p) / p), where p is the label's probability: log-sum-exp of the others, minus its.

    The cross-entropy is softplus(log_odds), so both gradients point the same way. That of the
    cross-entropy vanishes where p rounds to 1, as logits do that are scaled by a temperature
    (Carlini & Wagner 2016, "Defensive distillation is not robust to adversarial examples"; Croce &
    Hein 2020, section 4.1); that of the log-odds does not.
    """
    return _without(logits, labels).logsumexp(dim=1) - _of(logits, labels)


def unsquashed(outputs: Tensor) -> Tensor:
    """Outputs of a softmax, sigmoid or tanh as logits, by the logarithm; others as they are.

    They are told by their range, each image by itself: [0, 1], or [-1, 1].
    """
    low, high = outputs.detach().aminmax(dim=1, keepdim=True)
    shares = torch.where(low < 0, (1 + outputs) / 2, outputs)
    logits = shares.clamp_min(torch.finfo(outputs.dtype).tiny).log()
    return torch.where((low >= -1) & (high <= 1), logits, outputs)


def dlr(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020, Eqs. 6 and 7): the margin, free of scale.

    It is divided by π₁ - π₃, with targets by π₁ - (π₃ + π₄)/2, where π are the logits in
    descending order.

    Raises:
        InputError: for fewer than 3 classes, or 4 with targets.
    """
    needed = classes_of(dlr, targets is not None)
    if logits.shape[1] < needed:
        raise InputError(f"dlr needs {needed} classes, the model has {logits.shape[1]}; use margin")
    top = logits.topk(needed, dim=1).values
    spread = top[:, 0] - top[:, 2:].mean(dim=1)
    return margin(logits, labels, targets) / (spread + 1e-12)


LOSSES: dict[str, Loss] = {loss.__name__: loss for loss in (cross_entropy, margin, dlr)}
"""By name."""


def classes_of(loss: Loss, targeted: bool) -> int:
    """How many classes a loss needs."""
    if loss is dlr:
        return 4 if targeted else 3
    return 2


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuse labels that the model does not have.

    Raises:
        InputError: for one of `classes` or more.
    """
    if labels.max() >= classes:
        raise InputError(
            f"a label is {labels.max()}, the model has {classes} classes; "
            "use the model's own numbers, from 0"
        )


def likeliest_others(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The `count` likeliest wrong classes of each image, int64 [count, N], likeliest first.

    Raises:
        InputError: where there are not as many, or a label is none of the model's.
    """
    check_labels(labels, logits.shape[1])
    if not count < logits.shape[1]:
        raise InputError(
            f"targets is {count}, the model has {logits.shape[1]} classes; "
            f"use at most {logits.shape[1] - 1}"
        )
    return _without(logits, labels).topk(count, dim=1).indices.T


def _best_other(logits: Tensor, labels: Tensor) -> Tensor:
    return _without(logits, labels).amax(dim=1)


def _without(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.scatter(1, labels[:, None], -torch.inf)


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None])[:, 0]
