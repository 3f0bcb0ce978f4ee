"""The rest of a step: the last layer with the loss and its gradient, and Adam."""

import triton
import triton.language as tl

from ridefense.engines.cuda.convolution import outputs
from ridefense.engines.cuda.plan import GAIN as _GAIN
from ridefense.engines.cuda.streams import TARGET, normals, pixel_of_x, place, words
from ridefense.engines.eager import BETAS, EPS

GAIN = tl.constexpr(_GAIN)
BETA1, BETA2, EPSILON = tl.constexpr(BETAS[0]), tl.constexpr(BETAS[1]), tl.constexpr(EPS)


@triton.jit
def fed(state, PLAN: tl.constexpr, image, sample, pixel):
    """The network's inputs z at pixels [B], as they are stored: float32 [B, colours padded]."""
    colour = tl.arange(0, PLAN.wide(PLAN.colours))[None, :]
    valid = (pixel < PLAN.pixels)[:, None] & (colour < PLAN.colours)
    at = place(PLAN, image, sample) * PLAN.hidden(PLAN.convolutions) + pixel[:, None] * PLAN.colours
    return tl.load(state.hidden + at + colour, mask=valid, other=0.0).to(tl.float32)


@triton.jit
def last_layer(state, PLAN: tl.constexpr, image, sample, pixel):
    """The network's output at pixels [B]: float32 [B, colours padded]."""
    value = outputs(state, PLAN, PLAN.convolutions, image, sample, pixel)
    if PLAN.residual:
        value = fed(state, PLAN, image, sample, pixel) - value
    return tl.sigmoid(value) if PLAN.sigmoid else value


@triton.jit
def output_tile(state, PLAN: tl.constexpr, image, pixel, share):
    """Add a share of the network's output to `state.output`."""
    colour = tl.arange(0, PLAN.wide(PLAN.colours))[None, :]
    valid = (pixel < PLAN.pixels)[:, None] & (colour < PLAN.colours)
    value = last_layer(state, PLAN, image, 0, pixel)
    at = state.output + (image * PLAN.colours + colour) * PLAN.pixels + pixel[:, None]
    tl.store(at, tl.load(at, mask=valid, other=0.0) + share * value, mask=valid)


@triton.jit
def target_noise(state, PLAN: tl.constexpr, image, sample, step, pixel):
    """Normals of the target at pixels [B], four channels a block: [B, colours padded]."""
    COLOURS: tl.constexpr = PLAN.colours
    WIDE: tl.constexpr = PLAN.wide(COLOURS)
    colour = tl.arange(0, WIDE)[None, :]
    noise = tl.zeros((pixel.shape[0], WIDE), tl.float32)
    for group in tl.static_range(0, COLOURS, 4):
        block = group // 4 * PLAN.pixels + pixel
        four = normals(words(state, image, step, TARGET, sample, block))
        shape: tl.constexpr = (pixel.shape[0], WIDE // 4, 4)
        repeated = tl.reshape(tl.broadcast_to(four[:, None, :], shape), (pixel.shape[0], WIDE))
        noise = tl.where(colour // 4 == group // 4, repeated, noise)
    return noise


@triton.jit
def loss_tile(state, PLAN: tl.constexpr, image, sample, step, pixel, none_kept):
    """Write the gradient of the last layer's outputs; returns the sum of the loss's squares.

    The gradient is GAIN times that of half the sum, still without the loss's division.
    """
    colour = tl.arange(0, PLAN.wide(PLAN.colours))[None, :]
    valid = (pixel < PLAN.pixels)[:, None] & (colour < PLAN.colours)
    output = last_layer(state, PLAN, image, sample, pixel)
    target = pixel_of_x(state, PLAN, image, step, colour, pixel[:, None], valid)
    if PLAN.noisy_target:
        sigma = tl.load(state.sigma + colour, mask=colour < PLAN.colours, other=0.0)
        target += sigma * target_noise(state, PLAN, image, sample, step, pixel)
    if PLAN.recorruption != 0:  # x - σ·n/a, from the z = x + a·σ·n that the network was fed
        noise = fed(state, PLAN, image, sample, pixel) - target
        target -= noise / (PLAN.recorruption * PLAN.recorruption)
    unit = place(PLAN, image, sample)
    kept = tl.load(state.kept + unit * PLAN.pixels + pixel, mask=pixel < PLAN.pixels, other=0) != 0
    kept |= none_kept & (pixel == PLAN.pixels // 2)
    difference = tl.where(kept[:, None] & valid, output - target, 0.0)
    gradient = -GAIN * difference if PLAN.residual else GAIN * difference
    if PLAN.sigmoid:
        gradient *= output * (1 - output)
    gradients = state.gradients + (unit * 2 + PLAN.convolutions % 2) * PLAN.gradient
    at = gradients + pixel[:, None] * PLAN.colours + colour
    tl.store(at, gradient.to(state.gradients.dtype.element_ty), mask=valid)
    return tl.sum(difference * difference)


@triton.jit
def loss_scale(PLAN: tl.constexpr, squares, kept):
    """The loss, and the factor from `loss_tile`'s gradients to its own."""
    if PLAN.norm:
        loss = tl.sqrt(squares)
        scale = 1 / (GAIN * tl.maximum(loss, 1e-30))
    else:
        count = PLAN.colours * kept.to(tl.float32)
        loss = squares / count
        scale = 2 / (GAIN * count)
    return loss, scale


@triton.jit
def adam(state, PLAN: tl.constexpr, image, index, at, valid, gradient):
    """Adam's step on some weights of one network, `index` its place in the schedule."""
    rate = tl.load(state.schedule + 2 * index)
    correction = tl.load(state.schedule + 2 * index + 1)
    weights = state.weights + image * PLAN.stride + at
    moments = state.moments + image * 3 * PLAN.stride + at
    weight = tl.load(weights, mask=valid, other=0.0)
    gradient += PLAN.weight_decay * weight
    first = tl.load(moments, mask=valid, other=0.0)
    second = tl.load(moments + PLAN.stride, mask=valid, other=0.0)
    first = BETA1 * first + (1 - BETA1) * gradient
    second = BETA2 * second + (1 - BETA2) * gradient * gradient
    scale = second
    if PLAN.amsgrad:
        scale = tl.maximum(tl.load(moments + 2 * PLAN.stride, mask=valid, other=0.0), second)
        tl.store(moments + 2 * PLAN.stride, scale, mask=valid)
    weight -= rate * first / (tl.sqrt(scale) * correction + EPSILON)
    tl.store(moments, first, mask=valid)
    tl.store(moments + PLAN.stride, second, mask=valid)
    tl.store(weights, weight, mask=valid)
    if state.operands.dtype.element_ty != tl.float32:
        operands = state.operands + image * PLAN.stride + at
        tl.store(operands, weight.to(state.operands.dtype.element_ty), mask=valid)
