"""A classifier behind a purifier, as one `nn.Module` that any attack can take."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ridefense.errors import InputError
from ridefense.gradients import GradientMode, Identity
from ridefense.noise import derive
from ridefense.purifier import Purifier, check_purifier, named, purified_by, takes_raw


class Defended(nn.Module):
    """Pixels in [0, 1] to logits, through a purifier.

    Args:
        classifier: pixels [N, C, H, W] in [0, 1] to logits [N, classes]; its normalisation is its
            own first layer.
        purifier: an estimator, a filter, or any callable with their signature.
        gradient: how the purifier is differentiated: what an attacker makes of it.
        seed: of the purifier's randomness.

    Raises:
        InputError: for a classifier that is no module, a purifier without this call or one that
            sits in the classifier (`purifier.defend(classifier)`), or a gradient that is no mode.
    """

    def __init__(
        self,
        classifier: nn.Module,
        purifier: Purifier,
        gradient: GradientMode | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._check_parts(classifier, purifier, gradient)
        self.classifier = classifier
        self.purifier = purifier
        self.gradient = Identity() if gradient is None else gradient
        self.seed = seed
        self._calls = 0

    def forward(
        self, images: Tensor, ids: Sequence[int] | None = None, seed: int | None = None
    ) -> Tensor:
        """Logits [N, classes] of the purified images.

        Args:
            images: float [N, C, H, W], pixels in [0, 1].
            ids: of the images, by default 0, 1, …
            seed: of this draw; by default every call draws anew.

        Raises:
            InputError: inside `torch.jit.trace` and `torch.export`, and exporters that use them.

        The value is the defender's real output. Where the gradient mode has several views (see
        `views`), the gradient is that of their mean logits.
        """
        views = self.views(images, ids, seed)
        if len(views) == 1:
            return views[0]
        mean = views.mean(dim=0)
        return views[-1].detach() + (mean - mean.detach())

    def views(
        self, images: Tensor, ids: Sequence[int] | None = None, seed: int | None = None
    ) -> Tensor:
        """Logits of every view of the gradient mode, [M, N, classes]; the last is the real one.

        An attack averages its loss over the views.
        """
        seed = self._seed_of_call(images, seed)
        if torch.is_grad_enabled() and images.requires_grad:
            purified = self.gradient.views(self.purifier, images, ids=ids, seed=seed)
        else:
            purified = purified_by(self.purifier, images, ids, seed)[None]
        logits = logits_of(self.classifier, purified.flatten(0, 1))
        return logits.unflatten(0, purified.shape[:2])

    def train(self, mode: bool = True) -> Self:
        """Training mode of the classifier; a purifier that is a module keeps its own."""
        self.training = mode
        self.classifier.train(mode)
        return self

    def purified(
        self, images: Tensor, ids: Sequence[int] | None = None, seed: int | None = None
    ) -> Tensor:
        """What the classifier is shown: purified images [N, C, H, W], detached."""
        seed = self._fresh_seed() if seed is None else seed
        return purified_by(self.purifier, images.detach(), ids, seed).detach()

    @torch.no_grad()
    def raw_logits(self, images: Tensor, ids: Sequence[int], seed: int) -> Tensor:
        """Logits [N, classes] of images with pixels beyond [0, 1]; see `takes_raw`."""
        return logits_of(self.classifier, self.purifier.raw(images, ids=ids, seed=seed))

    @property
    def takes_raw(self) -> bool:
        """Whether the defence takes pixels beyond [0, 1], as randomised smoothing shows them."""
        return takes_raw(self.purifier)

    @property
    def device(self) -> torch.device:
        """Where the classifier's parameters are; the CPU where it has none."""
        return next((p.device for p in self.classifier.parameters()), torch.device("cpu"))

    @property
    def is_randomised(self) -> bool:
        """Whether two calls differ, so that an attack needs EOT; taken for granted if unknown."""
        return getattr(self.purifier, "is_randomised", True)

    @property
    def is_dynamic(self) -> bool:
        """Whether it optimises at test time; taken for granted if unknown.

        AutoAttack's own check sees that only where the optimisation runs in Python.
        """
        return getattr(self.purifier, "is_dynamic", True)

    def _seed_of_call(self, images: object, seed: int | None) -> int:
        """The seed of a call with these images: the one given, or a fresh one."""
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            # Engines leave PyTorch: a trace would keep this input's result for every input.
            raise InputError("a Defended cannot be traced or exported; export its classifier")
        if not isinstance(images, Tensor):
            raise InputError(f"images are {named(images)}; pass a torch.Tensor [N, C, H, W]")
        return self._fresh_seed() if seed is None else seed

    def _fresh_seed(self) -> int:
        self._calls += 1
        return derive(self.seed, "call", self._calls)

    def _replicate_for_data_parallel(self) -> Self:
        # Every replica would count its calls from here again, and draw the same for ever.
        raise InputError("a Defended cannot be replicated; put its classifier into DataParallel")

    def _check_parts(self, classifier: object, purifier: object, gradient: object) -> None:
        """Refuse what would fail at the first image, or swapped arguments."""
        if not isinstance(classifier, nn.Module):
            raise InputError(
                f"classifier is {named(classifier)}; pass an nn.Module, then the purifier: "
                "Defended(classifier, purifier)"
            )
        check_purifier(purifier)
        if hasattr(purifier, "defend"):
            raise InputError(
                f"purifier is {named(purifier)}, which sits in the classifier; "
                "use purifier.defend(classifier)"
            )
        if gradient is not None and (
            isinstance(gradient, type) or not callable(getattr(gradient, "views", None))
        ):
            raise InputError(
                f"gradient is {named(gradient)}; pass a mode of ridefense.gradients, as Identity()"
            )


def views(model: nn.Module, images: Tensor, ids: Sequence[int] | None, seed: int) -> Tensor:
    """Logits [M, N, classes] of a defended model's views, or of a plain model's one."""
    if isinstance(model, Defended):
        return model.views(images, ids, seed)
    return logits_of(model, images)[None]


def logits_of(classifier: nn.Module, images: Tensor) -> Tensor:
    """A classifier's logits [N, classes], or what else a model makes of each of N images.

    Raises:
        InputError: where it returns no tensor of that kind.
    """
    found = classifier(images)
    if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != len(images):
        made = tuple(found.shape) if isinstance(found, Tensor) else named(found)
        raise InputError(
            f"classifier {type(classifier).__name__} returned {made} for {len(images)} images; "
            "wrap it so that it returns logits [N, classes] (ridefense.adapters.huggingface has "
            "it for theirs)"
        )
    return found
