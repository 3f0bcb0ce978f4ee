"""Feature denoising of Xie et al., "Feature Denoising for Improving Adversarial Robustness"
(CVPR 2019)."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from ridefense.errors import InputError


class Denoising(nn.Module):
    """A denoising block: non-local means of a feature map, a 1×1 convolution, and the map itself.

    The block is the paper's section 3.1 with Gaussian (softmax) weights and without an embedding:
    each position becomes the mean of all positions, weighted by the softmax of their dot products
    with it over the root of the number of channels. The 1×1 convolution starts at 0, so that a new
    block changes nothing.

    Args:
        channels: of the feature map [N, C, H, W]; what comes out has the same shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mixing = nn.Conv2d(channels, channels, 1)
        for weights in self.mixing.parameters():
            nn.init.zeros_(weights)

    def forward(self, features: Tensor) -> Tensor:
        # [N, 1, H·W, C]: contiguous and with a head, as PyTorch's fast kernel wants it.
        places = features.flatten(2).transpose(1, 2).contiguous().unsqueeze(1)
        # The scale of the scores is the default, 1 / √C.
        means = functional.scaled_dot_product_attention(places, places, places)
        mixed: Tensor = self.mixing(means.squeeze(1).transpose(1, 2).reshape(features.shape))
        return features + mixed


def denoised(build: Callable[[], nn.Module]) -> nn.Sequential:
    """The network that `build` makes, with fresh weights, and a block after each pooling.

    Raises:
        InputError: for a network that is no sequence with a max-pooling after a convolution.
    """
    layers: list[nn.Module] = []
    channels = None
    for layer in build().children():
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            channels = layer.out_channels
        if isinstance(layer, nn.MaxPool2d) and channels:
            layers.append(Denoising(channels))
    if not any(isinstance(layer, Denoising) for layer in layers):
        raise InputError("the network has no pooling to put a block after; use mnist-cnn")
    return nn.Sequential(*layers)
