"""Random resizing and padding of Xie et al., "Mitigating Adversarial Effects Through
Randomization" (ICLR 2018)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ridefense.errors import check_share
from ridefense.noise import Keys, Stream
from ridefense.rivals.base import RandomFilter


@dataclass(frozen=True)
class ResizeAndPad(RandomFilter):
    """Each image resized to a random size and put at a random place on black.

    The original enlarges 299 pixels to 299 … 330 and pads to 331, which its classifiers accept. A
    purifier keeps its input's size, so here the canvas has that size and the image shrinks on it:
    the same proportions, for classifiers of a fixed input size (25 … 28 of 28 pixels, 29 … 32 of
    32, 202 … 224 of 224). The full size, which the original does not draw, leaves an image as it
    is: in a quarter of the draws of small images. Bilinear, antialiased; the paper does not say.

    Attributes:
        smallest: the least side as a share of the canvas's; 299/331 in the paper.
    """

    smallest: float = 299 / 331
    is_local = False

    def __post_init__(self) -> None:
        check_share("smallest", self.smallest)

    def draw(self, images: Tensor, keys: Keys) -> Tensor:
        height, width = images.shape[-2:]
        least = max(1, round(self.smallest * height))
        placed = []
        drawn = keys.uniform(Stream.CROP, [0], 3)[:, 0].tolist()
        for image, (a, b, c) in zip(images, drawn, strict=True):
            tall = least + int(a * (height - least + 1))
            wide = max(1, round(width * tall / height))
            top, left = int(b * (height - tall + 1)), int(c * (width - wide + 1))
            resized = F.interpolate(image[None], (tall, wide), mode="bilinear", antialias=True)
            border = (left, width - wide - left, top, height - tall - top)
            placed.append(F.pad(resized, border))
        return torch.cat(placed)
