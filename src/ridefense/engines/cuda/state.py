"""The memory that the kernels work in: every kernel takes one `State` and one `Plan`.

Weights are packed so that a convolution is one matrix: its rows are (tap, channel in), and a last
row of biases; its columns are channels out.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ridefense.engines.cuda.plan import STEPS, Plan
from ridefense.networks import Network
from ridefense.noise import Keys


class State(NamedTuple):
    """The device tensors of N fits; S samples of D = H·W pixels a step, of P weights each.

    A step's activations and gradients are channels-last, and only valid within the step.
    """

    weights: Tensor  # float32 [N, stride], packed
    operands: Tensor  # [N, stride], the same as the products take them
    moments: Tensor  # float32 [N, 3, stride], packed
    keys: Tensor  # int64 [N, 2]: both words of Philox's key, image id
    clock: Tensor  # int64 [2]: the step, and its place in `schedule` and `losses`
    schedule: Tensor  # float32 [STEPS, 2]: rate over one bias correction, 1 over the other's root
    losses: Tensor  # float32 [N, STEPS]
    x: Tensor  # float32 [N, C, image height, image width]
    sigma: Tensor  # float32 [C]
    output: Tensor  # float32 [N, C, image height, image width]
    kept: Tensor  # int8 [N, S, D], the loss mask
    counts: Tensor  # int32 [N, S, mask tiles], pixels that it keeps
    units: Tensor  # int32 [N, S, words], dropout's bits
    hidden: Tensor  # [N, S, D·Σ channels], the network's input and every layer's outputs
    gradients: Tensor  # [N, S, 2, D·max channels], of odd and of even layers' outputs
    squares: Tensor  # float32 [N, S, pixel tiles], the loss before division
    scale: Tensor  # float32 [N], from the sums in `partial` to the gradient of the loss
    partial: Tensor  # float32 [N, S·spans, stride]

    @classmethod
    def allocate(
        cls,
        plan: Plan,
        weights: Tensor,
        moments: Tensor,
        keys: Keys,
        sigma: tuple[float, ...],
        dtype: torch.dtype,
    ) -> "State":
        """Memory for fits that start from packed weights [N, stride] and moments [N, 3, stride]."""
        count, device, both = len(weights), weights.device, (plan, plan.whole)

        def scratch(dtype: torch.dtype, each: str) -> Tensor:
            # A step and a pass over the whole image take turns in one memory.
            return torch.empty(
                count, max(_sizes(p)[each] for p in both), dtype=dtype, device=device
            )

        first, second = keys.philox
        weights = weights.float().contiguous()
        image = (count, plan.colours, plan.image_height, plan.image_width)
        return cls(
            weights=weights,
            operands=weights if dtype == torch.float32 else weights.to(dtype),
            moments=moments.float().contiguous(),
            keys=torch.stack((second << 32 | first, keys.ids), dim=1),
            clock=torch.zeros(2, dtype=torch.int64, device=device),
            schedule=torch.zeros(STEPS, 2, device=device),
            losses=torch.zeros(count, STEPS, device=device),
            x=torch.empty(image, device=device),
            sigma=torch.tensor(sigma, dtype=torch.float32, device=device),
            output=torch.empty(image, device=device),
            kept=scratch(torch.int8, "kept"),
            counts=scratch(torch.int32, "counts"),
            units=scratch(torch.int32, "units"),
            hidden=scratch(dtype, "hidden"),
            gradients=scratch(dtype, "gradients"),
            squares=scratch(torch.float32, "squares"),
            scale=torch.empty(count, device=device),
            partial=scratch(torch.float32, "partial"),
        )


@cache
def packing(network: Network) -> tuple[Tensor, Tensor]:
    """Orders of the P weights: packed = weights[:, first], weights = packed[:, second]."""
    parts, before = [], 0
    for (c_in, c_out), taps in zip(network.convolutions, network.taps, strict=True):
        kernel = taps * c_in * c_out
        index = torch.arange(before, before + kernel).view(c_out, c_in, taps)
        before += kernel
        parts += [index.permute(2, 1, 0).flatten(), torch.arange(before, before + c_out)]
        before += c_out
    packed = torch.cat(parts)
    return packed, packed.argsort()


def _sizes(plan: Plan) -> dict[str, int]:
    """Elements of each scratch tensor, one image."""
    one = {
        "kept": plan.pixels,
        "counts": plan.mask_tiles,
        "units": max(1, plan.units(plan.convolutions)),
        "hidden": plan.hidden(plan.convolutions),
        "gradients": 2 * plan.gradient,
        "squares": plan.pixel_tiles,
        "partial": plan.spans * plan.stride,
    }
    return {name: plan.samples * elements for name, elements in one.items()}
