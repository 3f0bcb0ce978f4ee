// The library's random streams (docs/streams.md): Philox4x32-10 with key (seed, attempt) and
// counter (block, step, image, stream + 256·sample), one block a lane.
#pragma once

#include "plan.h"
#include "simd.h"

namespace ride::RIDE_ISA {

enum StreamNumber : uint32_t {
    stream_input = 0,
    stream_target = 1,
    stream_mask = 2,
    stream_fixed = 4,
    stream_crop = 5,
    stream_dropout = 64,
};

struct Stream {
    Key key;
    uint32_t step, number;  // the number with 256·sample added

    // The four words of the blocks in these lanes.
    RIDE_INLINE void draw(Words blocks, Words (&words)[4]) const {
        Words c0 = blocks, c1 = splat_word(step), c2 = splat_word(key.image);
        Words c3 = splat_word(number);
        uint32_t k0 = key.seed, k1 = key.attempt;
        for (int round = 0; round < 10; round++) {
            Words high0, low0, high1, low1;
            multiply_wide(c0, 0xD2511F53u, high0, low0);
            multiply_wide(c2, 0xCD9E8D57u, high1, low1);
            c0 = high1 ^ c1 ^ splat_word(k0);
            c1 = low1;
            c2 = high0 ^ c3 ^ splat_word(k1);
            c3 = low0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
    }
};

RIDE_INLINE int quarter_of(int count) { return (count + 3) / 4; }

// Calls use(first, count, words) for consecutive blocks, a vector at a time; the last vector may
// count fewer blocks than lanes.
template <class Use>
RIDE_INLINE void for_blocks(const Stream& stream, int first_block, int blocks, Use&& use) {
    Words words[4];
    for (int first = 0; first < blocks; first += lanes) {
        stream.draw(splat_word(uint32_t(first_block + first)) + lane_numbers(), words);
        use(first, blocks - first < lanes ? blocks - first : lanes, words);
    }
}

template <class Value>
RIDE_INLINE void store_first(float* to, Value value, int count) {
    if (count == lanes)
        store_anywhere(to, value);
    else
        std::memcpy(to, &value, size_t(count) * 4);
}

// log(u) of u = (k + ½)·2⁻²⁴, 0 ≤ k < 2²⁴, with Cephes' polynomial. From √½ on, u - 1 is taken from
// the integer, where it is exact: u itself has one bit more than a float.
RIDE_INLINE Vec log_of_uniform(Words k) {
    const Words root_half = splat_word(0x3F3504F3u);
    const Vec u = (to_floats(k) + 0.5f) * 0x1p-24f;
    const Ints shifted = reinterpret_cast<Ints>(as_words(u) - root_half);
    const Vec mantissa = as_floats(((as_words(u) - root_half) & 0x007FFFFFu) + root_half);
    const Vec below_one = (to_floats(k - 0x1000000u) + 0.5f) * 0x1p-24f;
    const Ints exponent = shifted >> 23;
    const Vec e = __builtin_convertvector(exponent, Vec);
    const Vec f = exponent == 0 ? below_one : mantissa - 1.0f;
    Vec p = f * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    const Vec square = f * f;
    Vec y = p * f * square;
    y = e * -2.12194440e-4f + y;
    y = square * -0.5f + y;
    return e * 0.693359375f + (y + f);
}

// Box-Muller: two words to two standard normals.
RIDE_INLINE void normals_of(Words first, Words second, Vec& cosine, Vec& sine) {
    const Vec radius = square_root(log_of_uniform(first >> 8) * -2.0f);
    // 24 bits are an angle in [-π/4, π/4), two more its quadrant.
    const Words fraction = (second & 0x3FFFFFFFu) >> 6;
    const Vec t = to_floats(fraction - 0x800000u) * (1.57079632679f * 0x1p-24f);
    const Vec t2 = t * t;
    Vec s = t2 * -1.9515295891e-4f + 8.3321608736e-3f;
    s = s * t2 - 1.6666654611e-1f;
    s = s * (t2 * t) + t;
    Vec c = t2 * 2.443315711809948e-5f - 1.388731625493765e-3f;
    c = c * t2 + 4.166664568298827e-2f;
    c = c * t2 - 0.5f;
    c = c * t2 + 1.0f;
    const Ints odd = (second & 0x40000000u) != Words{};
    const Vec at_cosine = odd ? s : c, at_sine = odd ? c : s;
    // The cosine is negative in quadrants 1 and 2, the sine in quadrants 2 and 3.
    const Words cosine_sign = (second ^ (second << 1)) & 0x80000000u;
    const Words sine_sign = second & 0x80000000u;
    cosine = radius * as_floats(as_words(at_cosine) ^ cosine_sign);
    sine = radius * as_floats(as_words(at_sine) ^ sine_sign);
}

// `normals`, and `uniforms` below, have room for `count` rounded up to a whole block of four.
inline void draw_normals(const Stream& stream, int count, float* normals) {
    const int quarter = quarter_of(count);
    for_blocks(stream, 0, quarter, [&](int first, int blocks, Words(&words)[4]) RIDE_LAMBDA {
        Vec values[4];
        normals_of(words[0], words[1], values[0], values[1]);
        normals_of(words[2], words[3], values[2], values[3]);
        repeat<4>(RIDE_EACH(w) {
            store_first(normals + w * quarter + first, values[w], blocks);
        });
    });
}

inline void draw_uniforms(const Stream& stream, int count, float* uniforms) {
    const int quarter = quarter_of(count);
    for_blocks(stream, 0, quarter, [&](int first, int blocks, Words(&words)[4]) RIDE_LAMBDA {
        repeat<4>(RIDE_EACH(w) {
            const Vec values = to_floats(words[w] >> 8) * 0x1p-24f;
            store_first(uniforms + w * quarter + first, values, blocks);
        });
    });
}

// The pixels that the loss keeps, in order; `list` has room for 4·(quarter + lanes).
inline int draw_kept_pixels(const Stream& stream, int pixels, uint64_t bound, int* list) {
    if (bound >> 32) {
        for (int pixel = 0; pixel < pixels; pixel++) list[pixel] = pixel;
        return pixels;
    }
    const int quarter = quarter_of(pixels), room = quarter + lanes;
    int counts[4] = {};
    for_blocks(stream, 0, quarter, [&](int first, int blocks, Words(&words)[4]) RIDE_LAMBDA {
        repeat<4>(RIDE_EACH(w) {
            uint32_t kept = lanes_below(words[w], uint32_t(bound));
            kept &= (uint32_t(1) << blocks) - 1;
            while (kept) {
                list[w * room + counts[w]++] = w * quarter + first + __builtin_ctz(kept);
                kept &= kept - 1;
            }
        });
    });
    int total = counts[0];
    for (int w = 1; w < 4; w++)
        for (int i = 0; i < counts[w]; i++)
            if (list[w * room + i] < pixels) list[total++] = list[w * room + i];
    if (!total) list[total++] = pixels / 2;
    return total;
}

// Normals of the target at `count` pixels, four channels of a pixel a block: [channels, count], in
// rows of `stride`.
inline void draw_target(const Stream& stream, const int* list, int count, int channels, int pixels,
                        float* normals, int stride) {
    for (int group = 0; group * 4 < channels; group++)
        for (int first = 0; first < count; first += lanes) {
            Words words[4];
            stream.draw(load_words(list + first) + uint32_t(group * pixels), words);
            Vec values[4];
            normals_of(words[0], words[1], values[0], values[1]);
            if (channels > group * 4 + 2) normals_of(words[2], words[3], values[2], values[3]);
            for (int c = 0; c < 4 && group * 4 + c < channels; c++)
                store_anywhere(normals + (group * 4 + c) * stride + first, values[c]);
        }
}

// The units that dropout keeps: [groups of 16 channels][pixels, rounded up to even], a bit a unit.
// Whole quarters are written: `units` has room for three more words.
inline void draw_kept_units(const Stream& stream, const Plan& plan, int halves, uint16_t* units) {
    const int words_needed = halves / 2, quarter = quarter_of(words_needed);
    for (int first = 0; first < quarter; first += lanes) {
        const int blocks = quarter - first < lanes ? quarter - first : lanes;
        Words kept[4] = {};
        for (int place = plan.digit_count - 1; place >= 0; place--) {
            Words words[4];
            const uint32_t block = uint32_t(place * quarter + first);
            stream.draw(splat_word(block) + lane_numbers(), words);
            repeat<4>(RIDE_EACH(w) {
                kept[w] = plan.digits[place] ? kept[w] | words[w] : kept[w] & words[w];
            });
        }
        repeat<4>(RIDE_EACH(w) {
            std::memcpy(units + 2 * (w * quarter + first), &kept[w], size_t(blocks) * 4);
        });
    }
}

}  // namespace ride::RIDE_ISA
