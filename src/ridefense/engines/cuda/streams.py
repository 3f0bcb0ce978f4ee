"""The random streams of `noise.py` in Triton, word for word; see docs/streams.md."""

import math

import triton
import triton.language as tl

from ridefense.noise import Stream

INPUT = tl.constexpr(int(Stream.INPUT))
TARGET = tl.constexpr(int(Stream.TARGET))
MASK = tl.constexpr(int(Stream.MASK))
FIXED = tl.constexpr(int(Stream.FIXED))
CROP = tl.constexpr(int(Stream.CROP))
DROPOUT = tl.constexpr(int(Stream.DROPOUT))
GRAIN = tl.constexpr(2.0**-24)
HALF_PI = tl.constexpr(math.pi / 2)


@triton.jit
def words(state, image, step, stream, sample, block):
    """The four words of each block, each uint32 like `block`; `step` is uint32."""
    key = tl.load(state.keys + 2 * image)
    owner = tl.load(state.keys + 2 * image + 1).to(tl.uint32)
    last = tl.cast(256 * sample + stream, tl.uint32)
    return tl.philox(key, block, step, owner, last)


@triton.jit
def place(PLAN: tl.constexpr, image, sample):
    """Where a sample of an image lies in the scratch; passes for the output share one place."""
    return image * PLAN.samples + sample % PLAN.samples


@triton.jit
def side_by_side(four):
    """Four tensors [B] as one [B, 4]."""
    low, high = tl.join(four[0], four[2]), tl.join(four[1], four[3])
    return tl.reshape(tl.join(low, high), (four[0].shape[0], 4))


@triton.jit
def uniforms(four):
    """Uniform on [0, 1): float32 [B, 4]."""
    return (side_by_side(four) >> 8).to(tl.float32) * GRAIN


@triton.jit
def normals(four):
    """Standard normals by Box-Muller: float32 [B, 4]."""
    first, second = tl.join(four[0], four[2]), tl.join(four[1], four[3])
    upper = first >> 8
    u = (upper.to(tl.float32) + 0.5) * GRAIN
    # Near 1 float32 cannot hold u; its complement v it can, and -log(1 - v) is v + v²/2 + v³/3.
    v = ((0xFFFFFF - upper).to(tl.float32) + 0.5) * GRAIN
    near = v * (1 + v * (0.5 + v / 3))
    radius = tl.sqrt(2 * tl.where(v < 2.0**-8, near, -tl.log(u)))
    # The angle is a quadrant and a rest in ±π/4, where short series do.
    quadrant, fraction = second >> 30, ((second & 0x3FFFFFFF) >> 6).to(tl.float32)
    rest = HALF_PI * (fraction * GRAIN - 0.5)
    x = rest * rest
    sine = rest * (1 + x * (-1 / 6 + x * (1 / 120 + x * (-1 / 5040 + x / 362880))))
    cosine = 1 + x * (-1 / 2 + x * (1 / 24 + x * (-1 / 720 + x / 40320)))
    odd, sign = quadrant % 2 == 1, tl.where(quadrant < 2, radius, -radius)
    across = sign * tl.where(odd, -sine, cosine)
    pairs = tl.join(across, sign * tl.where(odd, cosine, sine))
    return tl.reshape(pairs, (four[0].shape[0], 4))


@triton.jit
def elements(block, count):
    """The elements that these blocks are, int32 [B, 4], and which of them exist."""
    quarter = tl.cdiv(count, 4)
    element = tl.arange(0, 4)[None, :] * quarter + block[:, None]
    return element, (block < quarter)[:, None] & (element < count)


@triton.jit
def corner(state, PLAN: tl.constexpr, image, step):
    """Top and left of the step's crop."""
    if PLAN.cropped:
        w0, w1, _, _ = words(state, image, step, CROP, 0, 0)
        top = tl.umulhi(w0, tl.full((), PLAN.image_height - PLAN.height + 1, tl.uint32))
        left = tl.umulhi(w1, tl.full((), PLAN.image_width - PLAN.width + 1, tl.uint32))
        return top.to(tl.int32), left.to(tl.int32)
    else:
        return 0, 0


@triton.jit
def pixel_of_x(state, PLAN: tl.constexpr, image, step, colour, pixel, valid):
    """x at pixels of what the step fits."""
    top, left = corner(state, PLAN, image, step)
    row = top + pixel // PLAN.width
    column = left + pixel % PLAN.width
    at = (colour * PLAN.image_height + row) * PLAN.image_width + column
    size: tl.constexpr = PLAN.colours * PLAN.image_height * PLAN.image_width
    return tl.load(state.x + image * size + at, mask=valid, other=0.0)


@triton.jit
def draw_inputs(state, PLAN: tl.constexpr, image, sample, step, STREAM: tl.constexpr, block):
    """Write the network's inputs z that these blocks are: x + σ·noise, or the fixed noise.

    Of a recorrupted target's input the noise is a·σ·noise; where STREAM is negative there is none.
    """
    element, valid = elements(block, PLAN.colours * PLAN.pixels)
    colour = element // PLAN.pixels
    pixel = element % PLAN.pixels
    if PLAN.noisy_input:
        value = pixel_of_x(state, PLAN, image, step, colour, pixel, valid)
        if STREAM >= 0:
            noise = normals(words(state, image, step, STREAM, sample, block))
            sigma = tl.load(state.sigma + colour, mask=valid, other=0.0)
            if PLAN.recorruption != 0:
                sigma *= PLAN.recorruption
            value += sigma * noise
    else:
        value = uniforms(words(state, image, tl.full((), 0, tl.uint32), FIXED, 0, block))
    inputs = state.hidden + place(PLAN, image, sample) * PLAN.hidden(PLAN.convolutions)
    at = inputs + pixel * PLAN.colours + colour
    tl.store(at, value.to(state.hidden.dtype.element_ty), mask=valid)


@triton.jit
def draw_kept(state, PLAN: tl.constexpr, image, sample, step, block):
    """Write which pixels the loss keeps; returns how many."""
    element, valid = elements(block, PLAN.pixels)
    word = side_by_side(words(state, image, step, MASK, sample, block))
    kept = (word.to(tl.int64) < PLAN.limit) & valid
    unit = place(PLAN, image, sample)
    tl.store(state.kept + unit * PLAN.pixels + element, kept.to(tl.int8), mask=valid)
    return tl.sum(kept.to(tl.int32))


@triton.jit
def draw_units(state, PLAN: tl.constexpr, LAYER: tl.constexpr, image, sample, step, block):
    """Write the bits of the units that dropout keeps after a convolution.

    Bits are OR-ed or AND-ed, as the share's binary digits say, the last digit first.
    """
    count: tl.constexpr = PLAN.unit_words(LAYER)
    element, valid = elements(block, count)
    kept = tl.zeros((block.shape[0], 4), tl.uint32)
    for digit in tl.static_range(len(PLAN.digits) - 1, -1, -1):
        plane = digit * tl.cdiv(count, 4) + block
        word = side_by_side(words(state, image, step, DROPOUT + LAYER, sample, plane))
        kept = (kept | word) if PLAN.digits[digit] else (kept & word)
    unit = place(PLAN, image, sample)
    units = state.units + unit * PLAN.units(PLAN.convolutions) + PLAN.units(LAYER)
    tl.store(units + element, kept.to(tl.int32, bitcast=True), mask=valid)


@triton.jit
def draw_dropout(state, PLAN: tl.constexpr, image, sample, step, block):
    """`draw_units` for all convolutions that dropout follows."""
    for i in tl.static_range(len(PLAN.dropout)):
        draw_units(state, PLAN, PLAN.dropout[i], image, sample, step, block)
