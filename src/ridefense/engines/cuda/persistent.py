"""One program an image fits its network, step after step, in a single launch.

For small images, where a launch a stage would cost more than the stage. A barrier stands between
stages, since one thread of the program reads what another has written; nothing ever waits for
another program. What a program works on is small enough to stay in its multiprocessor's L1 cache
or in L2.
"""

import triton
import triton.language as tl

from ridefense.engines.cuda.convolution import hidden_tile, input_gradient_tile, weight_gradient
from ridefense.engines.cuda.step import adam, loss_scale, loss_tile
from ridefense.engines.cuda.streams import INPUT, draw_dropout, draw_inputs, draw_kept


@triton.jit(do_not_specialize=["steps"])
def fit(state, PLAN: tl.constexpr, steps):
    """Run so many steps from the clock's; grid (N,)."""
    LAST: tl.constexpr = PLAN.convolutions
    image = tl.program_id(0).to(tl.int64)
    first, index = tl.load(state.clock), tl.load(state.clock + 1)
    for i in tl.range(0, steps, disable_licm=True):
        step = (first + i).to(tl.uint32)
        squares, kept = 0.0, 0
        for sample in range(PLAN.samples):
            count = _draw(state, PLAN, image, sample, step)
            for layer in tl.static_range(1, LAST):
                _hidden(state, PLAN, layer, image, sample)
            squares += _loss(state, PLAN, image, sample, step, count == 0)
            kept += tl.maximum(count, 1)
        loss, scale = loss_scale(PLAN, squares, kept)
        tl.store(state.losses + image * PLAN.steps + index + i, loss)
        for back in tl.static_range(LAST):
            _backward(state, PLAN, LAST - back, image, index + i, scale)


@triton.jit
def _draw(state, PLAN: tl.constexpr, image, sample, step):
    kept = 0
    for tile in range(PLAN.draw_tiles):
        block = tile * PLAN.tiles.blocks + tl.arange(0, PLAN.tiles.blocks)
        draw_inputs(state, PLAN, image, sample, step, INPUT, block)
        draw_dropout(state, PLAN, image, sample, step, block)
        kept += draw_kept(state, PLAN, image, sample, step, block)
    tl.debug_barrier()
    return kept


@triton.jit
def _hidden(state, PLAN: tl.constexpr, LAYER: tl.constexpr, image, sample):
    for first in range(0, PLAN.pixels, PLAN.tiles.pixels):
        pixel = first + tl.arange(0, PLAN.tiles.pixels)
        hidden_tile(state, PLAN, LAYER, True, image, sample, pixel)
    tl.debug_barrier()


@triton.jit
def _loss(state, PLAN: tl.constexpr, image, sample, step, none_kept):
    squares = 0.0
    for first in range(0, PLAN.pixels, PLAN.tiles.pixels):
        pixel = first + tl.arange(0, PLAN.tiles.pixels)
        squares += loss_tile(state, PLAN, image, sample, step, pixel, none_kept)
    tl.debug_barrier()
    return squares


@triton.jit
def _backward(state, PLAN: tl.constexpr, LAYER: tl.constexpr, image, index, scale):
    """The gradient of the layer before, with the weights as they are; then their update."""
    OUT: tl.constexpr = PLAN.channels[LAYER]
    ROWS: tl.constexpr = PLAN.rows(LAYER)
    WIDE: tl.constexpr = PLAN.wide(OUT)
    if LAYER > 1:
        for sample in range(PLAN.samples):
            for first in range(0, PLAN.pixels, PLAN.tiles.pixels):
                pixel = first + tl.arange(0, PLAN.tiles.pixels)
                input_gradient_tile(state, PLAN, LAYER, image, sample, pixel)
        tl.debug_barrier()
    for tile in range(PLAN.row_tiles(LAYER)):
        row = tile * PLAN.rows(LAYER) + tl.arange(0, PLAN.rows(LAYER))
        total = tl.zeros((ROWS, WIDE), tl.float32)
        for sample in range(PLAN.samples):
            total = weight_gradient(state, PLAN, LAYER, image, sample, row, 0, PLAN.pixels, total)
        column = tl.arange(0, PLAN.wide(OUT))[None, :]
        at = PLAN.matrix(LAYER) + row[:, None] * OUT + column
        valid = (row <= PLAN.entries(LAYER))[:, None] & (column < OUT)
        adam(state, PLAN, image, index, at, valid, scale * total)
    tl.debug_barrier()
