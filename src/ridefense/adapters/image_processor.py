"""`Purify` before an image processor of Hugging Face's transformers."""

from typing import Any, NoReturn

from ridefense.errors import InputError
from ridefense.extras import package
from ridefense.purification import Purify

_PROCESSING: Any = package("transformers.image_processing_base", "huggingface")


class PurifyingImageProcessor(_PROCESSING.ImageProcessingMixin):  # type: ignore[misc]  # transformers is not typed
    """An image processor that purifies images first, for a `pipeline` or a training loop.

    It has the attributes of the processor that it wraps. It is a preprocessing step: no gradient
    passes through it, so attack a `Defended` (`adapters.huggingface`).

    Args:
        processor: of transformers, as `AutoImageProcessor.from_pretrained(…)`.
        purify: with its purifier, preset and seed.
    """

    def __init__(self, processor: Any, purify: Purify) -> None:
        self.processor = processor
        self.purify = purify

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> Any:
        """What the processor makes of the purified images; arguments as of the processor.

        Args:
            images: one image or a list, of PIL, arrays or tensors with pixels of 0 to 255 as uint8,
                or floating point in [0, 1].

        Raises:
            InputError: as `purify`.
        """
        return self.processor(self.purify(images), *args, **kwargs)

    preprocess = __call__

    def __getattr__(self, name: str) -> Any:
        if name in ("processor", "purify"):  # before __init__, as copies ask for them
            raise AttributeError(name)
        return getattr(self.processor, name)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not possible: the configuration of a processor has no place for a purifier.

        Raises:
            InputError: always.
        """
        raise InputError(
            "a PurifyingImageProcessor cannot be saved; save its processor, and wrap it again"
        )
