"""One kernel a stage, every image of the batch at once; `fits.py` strings them to a step.

The first axis of a grid cuts the stage's work; the second counts the samples of all images, or,
where a docstring says so, the images.
"""

import triton
import triton.language as tl

from ridefense.engines.cuda.convolution import hidden_tile, input_gradient_tile, weight_gradient
from ridefense.engines.cuda.step import adam, loss_scale, loss_tile, output_tile
from ridefense.engines.cuda.streams import draw_dropout, draw_inputs, draw_kept, place


@triton.jit
def _unit(PLAN: tl.constexpr):
    """Image and sample of this program."""
    unit = tl.program_id(1).to(tl.int64)
    return unit // PLAN.samples, unit % PLAN.samples


@triton.jit
def _pixels(PLAN: tl.constexpr):
    """Pixels of this program."""
    return tl.program_id(0) * PLAN.tiles.pixels + tl.arange(0, PLAN.tiles.pixels)


@triton.jit(do_not_specialize=["first_sample"])
def draw(
    state,
    first_sample,
    PLAN: tl.constexpr,
    STREAM: tl.constexpr,
    DROP: tl.constexpr,
    MASK: tl.constexpr,
):
    """Inputs and, where they are wanted, dropout's bits and the loss mask; over `draw_tiles`."""
    image, sample = _unit(PLAN)
    sample += first_sample
    step = tl.load(state.clock).to(tl.uint32)
    tile = tl.program_id(0)
    block = tile * PLAN.tiles.blocks + tl.arange(0, PLAN.tiles.blocks)
    draw_inputs(state, PLAN, image, sample, step, STREAM, block)
    if DROP:
        draw_dropout(state, PLAN, image, sample, step, block)
    if MASK and tile < PLAN.mask_tiles:
        kept = draw_kept(state, PLAN, image, sample, step, block)
        tl.store(state.counts + place(PLAN, image, sample) * PLAN.mask_tiles + tile, kept)


@triton.jit
def hidden(state, PLAN: tl.constexpr, LAYER: tl.constexpr, DROP: tl.constexpr):
    """A hidden layer's outputs; over `pixel_tiles`."""
    image, sample = _unit(PLAN)
    hidden_tile(state, PLAN, LAYER, DROP, image, sample, _pixels(PLAN))


@triton.jit
def output(state, share, PLAN: tl.constexpr):
    """Add a share of the network's output to `state.output`; over `pixel_tiles`, images."""
    output_tile(state, PLAN, tl.program_id(1).to(tl.int64), _pixels(PLAN), share)


@triton.jit
def loss(state, PLAN: tl.constexpr):
    """The last layer, the loss and its gradient; over `pixel_tiles`."""
    image, sample = _unit(PLAN)
    step = tl.load(state.clock).to(tl.uint32)
    unit = place(PLAN, image, sample)
    none_kept = _kept(state, PLAN, unit) == 0
    squares = loss_tile(state, PLAN, image, sample, step, _pixels(PLAN), none_kept)
    tl.store(state.squares + unit * PLAN.pixel_tiles + tl.program_id(0), squares)


@triton.jit
def _kept(state, PLAN: tl.constexpr, unit):
    """Pixels that the loss mask of a sample keeps."""
    tile = tl.arange(0, PLAN.wide(PLAN.mask_tiles))
    counts = state.counts + unit * PLAN.mask_tiles + tile
    return tl.sum(tl.load(counts, mask=tile < PLAN.mask_tiles, other=0))


@triton.jit
def input_gradient(state, PLAN: tl.constexpr, LAYER: tl.constexpr):
    """The gradient of the layer before a convolution; over `pixel_tiles`."""
    image, sample = _unit(PLAN)
    input_gradient_tile(state, PLAN, LAYER, image, sample, _pixels(PLAN))


@triton.jit
def partial_gradient(state, PLAN: tl.constexpr, LAYER: tl.constexpr):
    """The gradient of a convolution's matrix, part by part; over `row_tiles` of `spans`."""
    OUT: tl.constexpr = PLAN.channels[LAYER]
    image, sample = _unit(PLAN)
    span = tl.program_id(0) // PLAN.row_tiles(LAYER)
    row = tl.program_id(0) % PLAN.row_tiles(LAYER) * PLAN.rows(LAYER) + tl.arange(
        0, PLAN.rows(LAYER)
    )
    first = span * PLAN.tiles.span
    last = tl.minimum(first + PLAN.tiles.span, PLAN.pixels)
    total = tl.zeros((PLAN.rows(LAYER), PLAN.wide(OUT)), tl.float32)
    total = weight_gradient(state, PLAN, LAYER, image, sample, row, first, last, total)
    column = tl.arange(0, PLAN.wide(OUT))[None, :]
    part = (place(PLAN, image, sample) * PLAN.spans + span) * PLAN.stride + PLAN.matrix(LAYER)
    valid = (row <= 9 * PLAN.channels[LAYER - 1])[:, None] & (column < OUT)
    tl.store(state.partial + part + row[:, None] * OUT + column, total, mask=valid)


@triton.jit
def total_loss(state, PLAN: tl.constexpr):
    """The loss of each image and what its gradient is divided by; over 1, images."""
    image = tl.program_id(1).to(tl.int64)
    tile = tl.arange(0, PLAN.wide(PLAN.pixel_tiles))
    squares, kept = 0.0, 0
    for sample in range(PLAN.samples):
        unit = place(PLAN, image, sample)
        at = state.squares + unit * PLAN.pixel_tiles + tile
        squares += tl.sum(tl.load(at, mask=tile < PLAN.pixel_tiles, other=0.0))
        kept += tl.maximum(_kept(state, PLAN, unit), 1)
    value, scale = loss_scale(PLAN, squares, kept)
    tl.store(state.losses + image * PLAN.steps + tl.load(state.clock + 1), value)
    tl.store(state.scale + image, scale)


@triton.jit
def update(state, PLAN: tl.constexpr):
    """Adam on every weight; over `weight_tiles`, images."""
    image = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * PLAN.tiles.weights + tl.arange(0, PLAN.tiles.weights)
    valid = at < PLAN.size
    gradient = tl.zeros((PLAN.tiles.weights,), tl.float32)
    for part in range(PLAN.samples * PLAN.spans):
        parts = (image * PLAN.samples * PLAN.spans + part) * PLAN.stride
        gradient += tl.load(state.partial + parts + at, mask=valid, other=0.0)
    gradient *= tl.load(state.scale + image)
    adam(state, PLAN, image, tl.load(state.clock + 1), at, valid, gradient)
