"""JPEG with a derivative: the attacker's stand-in for the codec."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ridefense.defended import Before
from ridefense.noise import Id

_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)
"""Steps of quantisation at quality 50, row by row: ITU-T T.81, Annex K.1."""

_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_SIDE = 8  # of a block


class SoftJPEG(Before, nn.Module):
    """JPEG whose rounding has the derivative of a smooth step, see `_rounded`.

    Everything else is differentiated: colours, the subsampling of chrominance by two, cosine
    transform, quantisation. Values are those of libjpeg up to its integer arithmetic.

    Args:
        quality: 1 to 100, as libjpeg scales its tables.
    """

    name = "soft JPEG"
    is_randomised = False
    is_dynamic = False
    differentiable = True
    tables: Tensor
    cosines: Tensor
    to_ycc: Tensor
    to_rgb: Tensor

    def __init__(self, quality: int) -> None:
        super().__init__()
        scale = 5000 / quality if quality < 50 else 200 - 2 * quality
        steps = torch.tensor([_LUMINANCE, _CHROMINANCE, _CHROMINANCE]).view(3, _SIDE, _SIDE)
        # As buffers, so that attacks through it are told apart by its values.
        self.register_buffer("tables", ((steps * scale + 50) / 100).floor().clamp(1, 255))
        rows = torch.arange(_SIDE, dtype=torch.float64)
        waves = ((2 * rows + 1) * rows[:, None] * torch.pi / (2 * _SIDE)).cos() / 2
        waves[0] /= 2**0.5
        self.register_buffer("cosines", waves.float())
        self.register_buffer("to_ycc", torch.tensor(_TO_YCC))
        self.register_buffer("to_rgb", torch.linalg.inv(torch.tensor(_TO_YCC).double()).float())

    def forward(self, images: Tensor, ids: Sequence[Id] | None = None, seed: int = 0) -> Tensor:
        """Images as decoded, [N, C, H, W] in [0, 1], C one or three."""
        levels = _rounded(255 * images)
        if images.shape[1] == 1:
            found = self._coded(levels - 128, 0) + 128
        else:
            ycc = torch.einsum("ij,njhw->nihw", self.to_ycc.to(levels), levels)
            luminance = self._coded(ycc[:, :1] - 128, 0) + 128
            chrominance = self._subsampled(ycc[:, 1:])
            whole = torch.cat((luminance, chrominance), dim=1)
            found = torch.einsum("ij,njhw->nihw", self.to_rgb.to(levels), whole)
        return _rounded(found).clamp(0, 255) / 255

    def _subsampled(self, chrominance: Tensor) -> Tensor:
        """Both channels of chrominance, coded at half the size."""
        height, width = chrominance.shape[2:]
        padded = F.pad(chrominance, (0, width % 2, 0, height % 2), mode="replicate")
        half = F.avg_pool2d(padded, 2)
        coded = torch.cat([self._coded(half[:, i : i + 1], 1 + i) for i in range(2)], dim=1)
        return F.interpolate(coded, scale_factor=2, mode="bilinear")[:, :, :height, :width]

    def _coded(self, channel: Tensor, table: int) -> Tensor:
        """One channel [N, 1, H, W], around 0, quantised in blocks."""
        count, _, height, width = channel.shape
        down, across = -height % _SIDE, -width % _SIDE
        padded = F.pad(channel, (0, across, 0, down), mode="replicate")
        shape = (count, padded.shape[2] // _SIDE, _SIDE, padded.shape[3] // _SIDE, _SIDE)
        blocks = padded.view(shape).transpose(2, 3)
        waves, steps = self.cosines.to(channel), self.tables[table].to(channel)
        coefficients = waves @ blocks @ waves.T
        decoded = waves.T @ (_rounded(coefficients / steps) * steps) @ waves
        return decoded.transpose(2, 3).reshape(padded.shape)[:, :, :height, :width]


def _rounded(values: Tensor) -> Tensor:
    """Rounded values, whose derivative is 1/4 at a whole number and 5/2 between two, 1 on average.

    With a derivative of 1 everywhere most of a step goes to coefficients that round to what they
    were. One that vanishes at whole numbers, as that of round(v) + (v - round(v))³ (Shin & Song
    2017), loses the many coefficients around 0.
    """
    whole = values.round()
    apart = values - whole
    soft = apart / 4 + 3 * apart**3
    return whole.detach() + (soft - soft.detach())
