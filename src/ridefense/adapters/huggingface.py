"""Image classifiers of Hugging Face's transformers, both ways.

`load` and `classifier` make of one of theirs a classifier to defend: pixels in [0, 1] to logits.
`ForImageClassification` makes of a `Defended` one of theirs: `pixel_values` in, `.logits` out.
"""

import os
from collections.abc import Sequence
from typing import Any, cast

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from ridefense.classifiers.classifier import Classifier, Info, Normalise
from ridefense.defended import Defended
from ridefense.errors import InputError
from ridefense.extras import package
from ridefense.imagefiles import Interpolation, Sizing
from ridefense.images import Normalisation, cut_to_range

transformers = package("transformers", "huggingface")


def load(name: str | os.PathLike[str]) -> Classifier:
    """A classifier from a model's folder, or by its name on the hub; see `classifier`.

    Only weights in safetensors are read, and no code but that of transformers is run.

    Raises:
        InputError: where the model, its image processor or its safetensors are missing, and where
            it has no trained classification head.
    """
    try:
        model, loaded = transformers.AutoModelForImageClassification.from_pretrained(
            name,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
        processor = transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{name} is no image classifier of transformers that can be loaded "
            f"({_first_line(error)}); it needs config.json, preprocessor_config.json and "
            "model.safetensors"
        ) from error
    if missing := sorted(loaded["missing_keys"]):
        raise InputError(
            f"{name} has no weights for {missing[0]}; load a model that was trained to classify"
        )
    return classifier(model, processor)


def classifier(model: Any, processor: Any) -> Classifier:
    """Pixels [N, C, H, W] in [0, 1] to logits, differentiable: normalise, resize, then the model.

    Images that have the size of the processor's output are taken as they are, others are resized
    and cropped as the processor does.

    Args:
        model: a `…ForImageClassification`; it is set to eval mode, its weights without gradients.
        processor: its image processor, of the torchvision backend.

    Raises:
        InputError: for a processor that PyTorch cannot differentiate, or that does more than
            resize, crop, scale by 1/255 and normalise.
    """
    kind = type(processor).__name__
    if getattr(processor, "backend", None) != "torchvision":
        raise InputError(
            f"{kind} does not work in PyTorch, so it has no derivative; "
            'load the processor with backend="torchvision"'
        )
    normalisation = Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3)
    if processor.do_normalize:
        normalisation = Normalisation(tuple(processor.image_mean), tuple(processor.image_std))
    info = Info(
        name=model.name_or_path or type(model).__name__,
        architecture=type(model).__name__,
        dataset="",
    )
    network = _Network(model, processor)
    whole = Classifier(normalisation, network, info, _sizing(processor, network.size)).frozen()
    _check(whole, processor)
    return whole


def _sizing(processor: Any, size: Sequence[int]) -> Sizing:
    """How the processor brings images to the size of its output."""
    height, width = size
    if not processor.do_resize:
        return Sizing((height, width))
    given = dict(processor.size)
    resize = (
        given["shortest_edge"] if "shortest_edge" in given else (given["height"], given["width"])
    )
    filter_ = cast(Interpolation, Image.Resampling(processor.resample).name.lower())
    return Sizing((height, width), resize, filter_)


class ForImageClassification(nn.Module):
    """A `Defended` as transformers' own: normalised `pixel_values` in, an output with `.logits`.

    It goes where the model went, behind the same image processor, also into a `pipeline`.

    Args:
        defended: around a classifier that `load` or `classifier` made.

    Raises:
        InputError: for another classifier.
    """

    main_input_name = "pixel_values"

    def __init__(self, defended: Defended) -> None:
        super().__init__()
        inner = defended.classifier
        if not (isinstance(inner, Classifier) and isinstance(inner.network, _Network)):
            raise InputError(
                f"the defended classifier is a {type(inner).__name__}; make it with "
                "ridefense.adapters.huggingface.classifier"
            )
        self.defended = defended
        self.config: Any = inner.network.model.config

    def forward(self, pixel_values: Tensor) -> Any:
        """An `ImageClassifierOutput` with logits [N, classes].

        Args:
            pixel_values: [N, C, H, W], as the image processor returns them.

        Raises:
            InputError: where they do not come from pixels in [0, 1].
        """
        normalise = cast(Classifier, self.defended.classifier)[0]
        assert isinstance(normalise, Normalise)  # as a Classifier begins
        images = pixel_values * normalise.std + normalise.mean
        low, high = images.detach().aminmax()
        slack = 16 * torch.finfo(images.dtype).eps
        if not (low >= -slack and high <= 1 + slack):
            raise InputError(
                f"pixel_values come from pixels in [{low:.4g}, {high:.4g}]; prepare images in "
                "[0, 1] with the model's own image processor"
            )
        logits = self.defended(cut_to_range(images))  # what rounding put outside
        return transformers.modeling_outputs.ImageClassifierOutput(logits=logits)

    @property
    def device(self) -> torch.device:
        return self.defended.device

    @property
    def dtype(self) -> torch.dtype:
        declared: torch.dtype | None = self.config.dtype
        return declared or torch.float32

    def can_generate(self) -> bool:
        return False


class _Network(nn.Module):
    """Normalised pixels to logits, at the size that the image processor makes."""

    def __init__(self, model: nn.Module, processor: Any) -> None:
        super().__init__()
        self.model, self.processor = model, processor
        channels = getattr(model.config, "num_channels", 3)
        if processor.do_normalize:
            channels = len(processor.image_mean)
        self.size = self.resized(torch.zeros(1, channels, 97, 97)).shape[-2:]

    def forward(self, pixels: Tensor) -> Tensor:
        pixels = pixels if pixels.shape[-2:] == self.size else self.resized(pixels)
        logits: Tensor = self.model(pixel_values=pixels).logits
        return logits

    def resized(self, pixels: Tensor) -> Tensor:
        """What the processor makes of them, less its normalisation."""
        features = self.processor(
            images=list(pixels), do_rescale=False, do_normalize=False, return_tensors="pt"
        )
        prepared: Tensor = features["pixel_values"]
        return prepared


def _check(whole: Classifier, processor: Any) -> None:
    """Refuse a processor that makes anything but its own normalised colour of a plain image."""
    normalise, network = whole[0], whole[1]
    assert isinstance(normalise, Normalise)  # as a Classifier begins
    assert isinstance(network, _Network)
    colour = torch.tensor([60, 130, 190])[: len(normalise.mean)].byte().view(-1, 1, 1)
    shown = processor(images=[colour.expand(-1, 97, 97)], return_tensors="pt")["pixel_values"]
    expected = normalise(colour / 255).expand(1, -1, *network.size)
    if shown.shape != expected.shape or not torch.allclose(shown, expected, atol=1e-4):
        raise InputError(
            f"{type(processor).__name__} does more than resize, crop, scale and normalise; "
            "write a module that does what it does, and the model after it"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
