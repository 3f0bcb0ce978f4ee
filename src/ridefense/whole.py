"""A defence that is a model by itself: pixels to logits, in the place of the classifier."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ridefense.defended import Brought, Defended
from ridefense.describe import Plain, describe
from ridefense.errors import InputError
from ridefense.gradients import GradientMode
from ridefense.images import check_images
from ridefense.logits import logits_of
from ridefense.noise import Id
from ridefense.purifier import Position, named
from ridefense.treatment import NO_TREATMENT, Treatment


class _Called(nn.Module):
    """A function from images to logits as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


class WholeModel(Brought):
    """A defended model as a defence: test-time adaptation, noise inside, an ensemble, a detector.

    Evaluations, attacks and audits take it as they take a purifier. Their classifier is then its
    undefended counterpart, which it is compared with and which transfers are made on.

    The model may declare, as attributes:

    - `is_randomised`: whether two calls on equal images differ; taken to, where it does not say.
    - `is_dynamic`: whether it optimises at test time; likewise.
    - `differentiable`: whether PyTorch's derivative is the model's; likewise.
    - `refuses`: whether it returns one column more than there are classes, the last, which is
      largest where it refuses to answer. Refusing an adversarial image is a success of the
      defence, refusing a clean one an error. By default it does not refuse.

    Random numbers that it draws from the generators of PyTorch, NumPy or Python are determined by
    seed and ids. It is called in eval mode with gradients enabled, so that it may optimise.

    Args:
        model: an `nn.Module`, or any callable: float [N, C, H, W], pixels in [0, 1], to logits
            [N, classes], or [N, classes + 1] where it refuses.
        treatment: how it is called, where it is not what it says; see `audit.examine`.
        known_as: by which reports know it; by default the name of its class or function.

    Raises:
        InputError: for what is not callable.
    """

    ASSUMED: ClassVar[dict[str, bool]] = {
        "is_randomised": True,
        "is_dynamic": True,
        "differentiable": True,
        "refuses": False,
    }

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        treatment: Treatment = NO_TREATMENT,
        known_as: str | None = None,
    ) -> None:
        if not callable(model) or isinstance(model, type):
            raise InputError(
                f"the defended model is {named(model)}; pass an nn.Module or a function from "
                "images to logits"
            )
        if isinstance(model, nn.Module):
            model.eval()
        super().__init__(model, treatment, known_as)

    @property
    def name(self) -> str:
        own = self.adapted
        return self.known_as or str(getattr(own, "__name__", None) or type(own).__name__)

    @property
    def refuses(self) -> bool:
        """Whether the last column of its logits is a refusal."""
        return self._declared("refuses")

    @property
    def position(self) -> Position:
        return "instead"

    def forward(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        """The images as they are: the model has no purified images to show."""
        check_images(images)
        return images.clone()

    def logits(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        """Logits [N, classes] of images [N, C, H, W], with the column of a refusal if it refuses.

        Raises:
            InputError: where it returns anything else.
            UserCodeError: where it raises an error.
        """

        def ask(own: Callable[[Tensor], Tensor], shown: Tensor, _: object) -> Tensor:
            module = own if isinstance(own, nn.Module) else _Called(own)
            return logits_of(module, shown, self.name)

        wanted = torch.is_grad_enabled()
        with torch.enable_grad():
            found = self.asked(ask, images, ids, seed)
        return found if wanted and self.differentiable else found.detach()

    def behind(
        self, classifier: nn.Module, gradient: GradientMode | None = None, seed: int = 0
    ) -> "DefendedWhole":
        """The model itself; of the classifier only the device is used."""
        return DefendedWhole(classifier, self, gradient, seed)

    def described(self) -> Plain:
        """See `ridefense.describe`: the model as it was brought.

        Raises:
            InputError: for a function that records cannot tell from another, known by no name.
        """
        found: Plain = {"type": "WholeModel", "name": self.name}
        try:
            return found | {"model": describe(self.first)}
        except InputError:
            if self.known_as is None:
                raise
            return found


class DefendedWhole(Defended):
    """A whole model, which attacks see as they see any `Defended`.

    Its derivative is PyTorch's own of one draw, whatever the gradient mode. Where that is not
    trusted its logits are detached, and attacks estimate the gradient from answers.
    """

    position: ClassVar[Position] = "instead"
    purifier: WholeModel

    def __init__(
        self,
        classifier: nn.Module,
        purifier: WholeModel,
        gradient: GradientMode | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(classifier, purifier, gradient, seed)
        if isinstance(purifier.adapted, nn.Module):
            purifier.adapted.to(self.device)

    @property
    def refuses(self) -> bool:
        return self.purifier.refuses

    @property
    def is_randomised(self) -> bool:
        return self.purifier.is_randomised

    def shown(self, images: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
        check_images(images)
        return images[None]

    @torch.no_grad()
    def raw_logits(self, images: Tensor, ids: Sequence[int], seed: int) -> Tensor:
        raise InputError(
            f"{self.purifier.name} does not take pixels beyond [0, 1]; clip the noisy images"
        )

    def classified(self, purified: Tensor, ids: Sequence[Id] | None, seed: int) -> Tensor:
        return self.purifier.logits(purified, ids, seed)
