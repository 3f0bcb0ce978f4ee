"""One kernel a stage, every image of the batch at once; `fits.py` strings them to a step.

A grid is flat: so many programs for each sample of each image, or, where a docstring says so, for
each image.
"""

import triton
import triton.language as tl

from ridefense.engines.cuda.convolution import hidden_tile, input_gradient_tile, weight_gradient
from ridefense.engines.cuda.step import adam, loss_scale, loss_tile, output_tile
from ridefense.engines.cuda.streams import draw_dropout, draw_inputs, draw_kept, place


@triton.jit
def _program(SAMPLES: tl.constexpr, TILES: tl.constexpr):
    """Image, sample and tile of this program."""
    program = tl.program_id(0)
    unit = (program // TILES).to(tl.int64)
    return unit // SAMPLES, unit % SAMPLES, program % TILES


@triton.jit
def _range(tile, SIZE: tl.constexpr):
    """What lies in this tile of so many pixels, blocks, rows or weights."""
    return tile * SIZE + tl.arange(0, SIZE)


@triton.jit(do_not_specialize=["first_sample"])
def draw(
    state,
    PLAN: tl.constexpr,
    STREAM: tl.constexpr,
    DROP: tl.constexpr,
    MASK: tl.constexpr,
    first_sample,
):
    """Inputs and, where they are wanted, dropout's bits and the loss mask; `draw_tiles`.

    Inputs carry no noise where STREAM is negative.
    """
    image, sample, tile = _program(PLAN.samples, PLAN.draw_tiles)
    sample += first_sample
    step = tl.load(state.clock).to(tl.uint32)
    block = _range(tile, PLAN.tiles.blocks)
    draw_inputs(state, PLAN, image, sample, step, STREAM, block)
    if DROP:
        draw_dropout(state, PLAN, image, sample, step, block)
    if MASK and tile < PLAN.mask_tiles:
        kept = draw_kept(state, PLAN, image, sample, step, block)
        tl.store(state.counts + place(PLAN, image, sample) * PLAN.mask_tiles + tile, kept)


@triton.jit
def hidden(state, PLAN: tl.constexpr, LAYER: tl.constexpr, DROP: tl.constexpr):
    """A hidden layer's outputs; `pixel_tiles`."""
    image, sample, tile = _program(PLAN.samples, PLAN.pixel_tiles)
    pixel = _range(tile, PLAN.tiles.pixels)
    hidden_tile(state, PLAN, LAYER, DROP, image, sample, pixel)


@triton.jit
def output(state, PLAN: tl.constexpr, share):
    """Add a share of the network's output to `state.output`; `pixel_tiles` an image."""
    image, _, tile = _program(1, PLAN.pixel_tiles)
    output_tile(state, PLAN, image, _range(tile, PLAN.tiles.pixels), share)


@triton.jit
def loss(state, PLAN: tl.constexpr):
    """The last layer, the loss and its gradient; `pixel_tiles`."""
    image, sample, tile = _program(PLAN.samples, PLAN.pixel_tiles)
    step = tl.load(state.clock).to(tl.uint32)
    unit = place(PLAN, image, sample)
    none_kept = _kept(state, PLAN, unit) == 0
    pixel = _range(tile, PLAN.tiles.pixels)
    squares = loss_tile(state, PLAN, image, sample, step, pixel, none_kept)
    tl.store(state.squares + unit * PLAN.pixel_tiles + tile, squares)


@triton.jit
def _kept(state, PLAN: tl.constexpr, unit):
    """Pixels that the loss mask of a sample keeps."""
    tile = tl.arange(0, PLAN.wide(PLAN.mask_tiles))
    counts = state.counts + unit * PLAN.mask_tiles + tile
    return tl.sum(tl.load(counts, mask=tile < PLAN.mask_tiles, other=0))


@triton.jit
def input_gradient(state, PLAN: tl.constexpr, LAYER: tl.constexpr):
    """The gradient of the layer before a convolution; `pixel_tiles`."""
    image, sample, tile = _program(PLAN.samples, PLAN.pixel_tiles)
    pixel = _range(tile, PLAN.tiles.pixels)
    input_gradient_tile(state, PLAN, LAYER, image, sample, pixel)


@triton.jit
def partial_gradient(state, PLAN: tl.constexpr, LAYER: tl.constexpr):
    """The gradient of some rows of a convolution's matrix over a span of pixels; `parts`."""
    OUT: tl.constexpr = PLAN.channels[LAYER]
    image, sample, tile = _program(PLAN.samples, PLAN.parts(LAYER))
    span = tile // PLAN.row_tiles(LAYER)
    row = _range(tile % PLAN.row_tiles(LAYER), PLAN.rows(LAYER))
    first = span * PLAN.tiles.span
    last = tl.minimum(first + PLAN.tiles.span, PLAN.pixels)
    ROWS: tl.constexpr = PLAN.rows(LAYER)
    WIDE: tl.constexpr = PLAN.wide(OUT)
    total = tl.zeros((ROWS, WIDE), tl.float32)
    total = weight_gradient(state, PLAN, LAYER, image, sample, row, first, last, total)
    column = tl.arange(0, PLAN.wide(OUT))[None, :]
    part = (place(PLAN, image, sample) * PLAN.spans + span) * PLAN.stride + PLAN.matrix(LAYER)
    valid = (row <= PLAN.entries(LAYER))[:, None] & (column < OUT)
    tl.store(state.partial + part + row[:, None] * OUT + column, total, mask=valid)


@triton.jit
def total_loss(state, PLAN: tl.constexpr):
    """The loss, and the factor from `partial` to its gradient; one program an image."""
    image, _, _ = _program(1, 1)
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
    """Adam; `weight_tiles` an image."""
    image, _, tile = _program(1, PLAN.weight_tiles)
    at = _range(tile, PLAN.tiles.weights)
    valid = at < PLAN.size
    SIZE: tl.constexpr = PLAN.tiles.weights
    gradient = tl.zeros((SIZE,), tl.float32)
    for part in range(PLAN.samples * PLAN.spans):
        parts = (image * PLAN.samples * PLAN.spans + part) * PLAN.stride
        gradient += tl.load(state.partial + parts + at, mask=valid, other=0.0)
    gradient *= tl.load(state.scale + image)
    adam(state, PLAN, image, tl.load(state.clock + 1), at, valid, gradient)
