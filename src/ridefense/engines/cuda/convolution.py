"""One tile of a convolution, 3×3 or 1×1: its outputs, and the gradients of inputs and weights.

All three are matrix products over (tap, channel), with the columns of the image gathered on the
way: an implicit GEMM. A tile is some pixels of one sample of one image.
"""

import triton
import triton.language as tl
from triton.knobs import runtime

from ridefense.engines.cuda.streams import place

INTERPRETED = tl.constexpr(runtime.interpret)


@triton.jit
def multiply(a, b, total, PLAN: tl.constexpr):
    """total + a·b, summed in float32."""
    if (
        INTERPRETED
    ):  # the interpreter cannot multiply bfloat16; in float32 the products are the same
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision=PLAN.product)


@triton.jit
def columns(
    source,
    PLAN: tl.constexpr,
    pixel,
    row,
    CHANNELS: tl.constexpr,
    TAPS: tl.constexpr,
    MIRRORED: tl.constexpr,
):
    """Neighbours of pixels [B] in channels-last `source`, at rows (tap, channel) [K]: [B, K].

    Zero outside the image. Mirrored, the pixel is the neighbour's neighbour: the other way round.
    """
    tap = row // CHANNELS
    if TAPS == 1:
        tap += 4  # the middle one
    down, right = tap // 3 - 1, tap % 3 - 1
    if MIRRORED:
        down, right = -down, -right
    y = (pixel // PLAN.width)[:, None] + down[None, :]
    x = (pixel % PLAN.width)[:, None] + right[None, :]
    inside = (y >= 0) & (y < PLAN.height) & (x >= 0) & (x < PLAN.width)
    exists = (pixel < PLAN.pixels)[:, None] & (row < TAPS * CHANNELS)[None, :]
    at = (y * PLAN.width + x) * CHANNELS + (row % CHANNELS)[None, :]
    return tl.load(source + at, mask=inside & exists, other=0.0)


@triton.jit
def outputs(state, PLAN: tl.constexpr, LAYER: tl.constexpr, image, sample, pixel):
    """A convolution's outputs with their bias: float32 [B, channels out padded]."""
    IN: tl.constexpr = PLAN.channels[LAYER - 1]
    OUT: tl.constexpr = PLAN.channels[LAYER]
    TAPS: tl.constexpr = PLAN.taps(LAYER)
    unit = place(PLAN, image, sample)
    hidden = state.hidden + unit * PLAN.hidden(PLAN.convolutions)
    matrix = image * PLAN.stride + PLAN.matrix(LAYER)
    column = tl.arange(0, PLAN.wide(OUT))
    total = tl.zeros((pixel.shape[0], PLAN.wide(OUT)), tl.float32)
    for first in range(0, TAPS * IN, PLAN.depth(TAPS * IN)):
        row = first + tl.arange(0, PLAN.depth(TAPS * IN))
        a = columns(hidden + PLAN.hidden(LAYER - 1), PLAN, pixel, row, IN, TAPS, False)
        exists = (row < TAPS * IN)[:, None] & (column < OUT)[None, :]
        at = matrix + row[:, None] * OUT + column[None, :]
        b = tl.load(state.operands + at, mask=exists, other=0.0)
        total = multiply(a, b, total, PLAN)
    bias = tl.load(state.weights + matrix + TAPS * IN * OUT + column, mask=column < OUT, other=0.0)
    return total + bias[None, :]


@triton.jit
def hidden_tile(
    state, PLAN: tl.constexpr, LAYER: tl.constexpr, DROP: tl.constexpr, image, sample, pixel
):
    """Write a hidden layer's outputs, after ReLU and, where it is on, dropout."""
    OUT: tl.constexpr = PLAN.channels[LAYER]
    column = tl.arange(0, PLAN.wide(OUT))[None, :]
    valid = (pixel < PLAN.pixels)[:, None] & (column < OUT)
    value = outputs(state, PLAN, LAYER, image, sample, pixel)
    floor = PLAN.slope * value if PLAN.slope != 0 else 0.0
    value = tl.maximum(value, floor)
    unit = place(PLAN, image, sample)
    if DROP and PLAN.drops(LAYER):
        half = column // 16 * (PLAN.pixels + PLAN.pixels % 2) + pixel[:, None]
        units = state.units + unit * PLAN.units(PLAN.convolutions) + PLAN.units(LAYER)
        word = tl.load(units + half // 2, mask=valid, other=0)
        bit = (word >> (half % 2 * 16 + column % 16)) & 1
        value = tl.where(bit != 0, value / PLAN.share, 0.0)
    hidden = state.hidden + unit * PLAN.hidden(PLAN.convolutions) + PLAN.hidden(LAYER)
    at = hidden + pixel[:, None] * OUT + column
    tl.store(at, value.to(state.hidden.dtype.element_ty), mask=valid)


@triton.jit
def input_gradient_tile(state, PLAN: tl.constexpr, LAYER: tl.constexpr, image, sample, pixel):
    """Write the gradient of the layer before, from that of this convolution's outputs.

    A unit that ReLU or dropout set to zero has none, one that leaks has the slope's share.
    """
    IN: tl.constexpr = PLAN.channels[LAYER - 1]
    OUT: tl.constexpr = PLAN.channels[LAYER]
    TAPS: tl.constexpr = PLAN.taps(LAYER)
    unit = place(PLAN, image, sample)
    gradients = state.gradients + unit * 2 * PLAN.gradient
    matrix = image * PLAN.stride + PLAN.matrix(LAYER)
    column = tl.arange(0, PLAN.wide(IN))
    total = tl.zeros((pixel.shape[0], PLAN.wide(IN)), tl.float32)
    for first in range(0, TAPS * OUT, PLAN.depth(TAPS * OUT)):
        row = first + tl.arange(0, PLAN.depth(TAPS * OUT))
        a = columns(gradients + LAYER % 2 * PLAN.gradient, PLAN, pixel, row, OUT, TAPS, True)
        exists = (row < TAPS * OUT)[:, None] & (column < IN)[None, :]
        at = (row // OUT * IN * OUT + row % OUT)[:, None] + (column * OUT)[None, :]
        b = tl.load(state.operands + matrix + at, mask=exists, other=0.0)
        total = multiply(a, b, total, PLAN)
    valid = (pixel < PLAN.pixels)[:, None] & (column < IN)[None, :]
    at = pixel[:, None] * IN + column[None, :]
    hidden = state.hidden + unit * PLAN.hidden(PLAN.convolutions) + PLAN.hidden(LAYER - 1)
    active = tl.load(hidden + at, mask=valid, other=0.0)
    if PLAN.drops(LAYER - 1):
        total = total / PLAN.share
    below = tl.where(active < 0, PLAN.slope * total, 0.0)
    value = tl.where(active > 0, total, below).to(state.gradients.dtype.element_ty)
    tl.store(gradients + (LAYER - 1) % 2 * PLAN.gradient + at, value, mask=valid)


@triton.jit
def weight_gradient(
    state, PLAN: tl.constexpr, LAYER: tl.constexpr, image, sample, row, first, last, total
):
    """`total` and the gradient of a convolution's matrix at these rows, over a range of pixels."""
    IN: tl.constexpr = PLAN.channels[LAYER - 1]
    OUT: tl.constexpr = PLAN.channels[LAYER]
    TAPS: tl.constexpr = PLAN.taps(LAYER)
    unit = place(PLAN, image, sample)
    hidden = state.hidden + unit * PLAN.hidden(PLAN.convolutions) + PLAN.hidden(LAYER - 1)
    gradients = state.gradients + (unit * 2 + LAYER % 2) * PLAN.gradient
    column = tl.arange(0, PLAN.wide(OUT))
    for begin in range(first, last, PLAN.tiles.pixels):
        pixel = begin + tl.arange(0, PLAN.tiles.pixels)
        a = columns(hidden, PLAN, pixel, row, IN, TAPS, False)
        one = tl.full((1, 1), 1, tl.float32).to(a.dtype)
        a = tl.where((row == TAPS * IN)[None, :], one, a)  # the biases' row
        valid = (pixel < PLAN.pixels)[:, None] & (column < OUT)[None, :]
        b = tl.load(gradients + pixel[:, None] * OUT + column[None, :], mask=valid, other=0.0)
        total = multiply(tl.trans(a), b, total, PLAN)
    return total
