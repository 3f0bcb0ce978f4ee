"""A purifier as a preprocessor of the Adversarial Robustness Toolbox (ART)."""

from typing import Any

from torch import Tensor, nn

from ridefense.defended import Defended
from ridefense.errors import InputError
from ridefense.extras import package
from ridefense.gradients import GradientMode, Identity
from ridefense.images import check_images
from ridefense.noise import check_seed, derive
from ridefense.purifier import Purifier

_ART = package("art.defences.preprocessor.preprocessor", "art")


class Preprocessor(_ART.PreprocessorPyTorch):  # type: ignore[misc, name-defined]  # ART is not typed
    """A purifier in front of ART's `PyTorchClassifier`, one of its `preprocessing_defences`.

    It purifies what is to be predicted, not what is trained on. Every `forward` draws anew, as
    every call of a `Defended` does; `estimate_forward` and `estimate_gradient`, with which ART
    differentiates what it has run before, repeat the last draw.

    Args:
        purifier: an estimator, a filter, or any callable with their signature.
        gradient: how the purifier is differentiated, by default `Identity` (BPDA).
        seed: of the purifier's randomness.
        device_type: "gpu", used where there is one, or "cpu"; as of the `PyTorchClassifier`.
    """

    params = ("purifier", "gradient", "seed")

    def __init__(
        self,
        purifier: Purifier,
        gradient: GradientMode | None = None,
        seed: int = 0,
        device_type: str = "gpu",
    ) -> None:
        super().__init__(
            device_type=device_type, is_fitted=True, apply_fit=False, apply_predict=True
        )
        self.purifier = purifier
        self.gradient = Identity() if gradient is None else gradient
        self.seed = check_seed(seed)
        self._calls = 0

    def forward(self, x: Tensor, y: Any = None) -> tuple[Tensor, Any]:
        """Purified images [N, C, H, W], connected to x as the gradient mode says; y as it is.

        Raises:
            InputError: where a derivative is asked for and the gradient mode has several views:
                ART passes one image on to the classifier.
        """
        self._calls += 1
        return self.estimate_forward(x), y

    def estimate_forward(self, x: Tensor, y: Any = None) -> Tensor:
        """As `forward`, with the draw of the last one."""
        check_images(x)
        purify = Defended(nn.Identity(), self.purifier, self.gradient)
        views = purify.shown(x, None, derive(self.seed, "call", self._calls))
        if len(views) > 1:
            raise InputError(
                f"{self.gradient.name} has {len(views)} views of an image and a preprocessor "
                "passes on one; give PyTorchClassifier the Defended as its model instead"
            )
        return views[0]
