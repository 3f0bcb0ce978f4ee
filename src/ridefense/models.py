"""What attacks ask of any model, a `Defended` or a plain `nn.Module`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ridefense.defended import Defended
from ridefense.noise import Id
from ridefense.treatment import TreatedClassifier, logits_for


def views(model: nn.Module, images: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
    """Logits [M, N, classes] of a defended model's views, or of a plain model's one."""
    if isinstance(model, Defended):
        return model.views(images, ids, seed)
    return logits_for(model, images, ids, seed)[None]


def shown_by(model: nn.Module, images: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
    """What a model's classifier is shown, [M, N, C, H, W]; see `Defended.shown`."""
    return model.shown(images, ids, seed) if isinstance(model, Defended) else images[None]


def classified_by(model: nn.Module, shown: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
    """Logits [N, classes] of images that a model's classifier is shown."""
    if isinstance(model, Defended):
        return model.classified(shown, ids, seed)
    return logits_for(model, shown, ids, seed)


def read_by(model: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    """Logits as an attacker of these labels has to read them.

    A model that refuses is not fooled by a refusal. So the logit of the refusal counts for the true
    class, and the column falls away: the largest logit is another class's where the model is
    fooled.

    Args:
        logits: [..., N, classes], with the column of the refusal where the model refuses.
        labels: int64 [N], the true classes.
    """
    if not (isinstance(model, Defended) and model.refuses):
        return logits
    known, refusal = logits[..., :-1], logits[..., -1:]
    own = labels.expand(known.shape[:-1])[..., None]
    if int(labels.max()) >= known.shape[-1]:  # `check_labels` refuses it
        return known
    return known.scatter(-1, own, torch.maximum(known.gather(-1, own), refusal))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode inside, so that no statistics change; as it was, outside.

    A purifier that is a module keeps its own mode.
    """
    modes = [(part, part.training) for part in model.modules()]
    if not any(mode for _, mode in modes):
        yield
        return
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def is_randomised(model: nn.Module) -> bool:
    """Whether two calls of a model differ; a plain module is taken to be deterministic."""
    return isinstance(model, Defended | TreatedClassifier) and model.is_randomised


def is_distrusted(model: nn.Module) -> bool:
    """Whether the gradient of a model's classifier was found not to be its derivative."""
    own = model.classifier if isinstance(model, Defended) else model
    return isinstance(own, TreatedClassifier) and own.treatment.differentiable is False
