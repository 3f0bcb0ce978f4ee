"""Adapters to the toolboxes that need one.

A `Defended` is an `nn.Module` from pixels to logits, and most toolboxes take it as it is:
docs/toolboxes.md shows how. Two ask for another shape, ART's preprocessors (`art`) and the image
classifiers of Hugging Face (`huggingface`): import these by their module, for each needs a package
of its own.
"""

from torch import Tensor, nn

from ridefense.images import cut_to_range

__all__ = ["CutToRange"]


class CutToRange(nn.Module):
    """Cuts pixels to [0, 1], with the derivative of the identity; goes in front of a `Defended`.

    Purifiers refuse pixels outside, and some attacks ask about them on their way: those that look
    a step ahead, take finite differences at a border, or round. `nn.Sequential(CutToRange(),
    defended)` answers as a defender does who is sent an image file.
    """

    def forward(self, images: Tensor) -> Tensor:
        return cut_to_range(images)
