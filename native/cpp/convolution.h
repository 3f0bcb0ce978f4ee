// The 3×3 convolution, forward and backward: the input gradient is the same operation with other
// weights. Two ways to compute it: `scatter` skips what is zero, `gather` takes every value.
//
// Both read weights as [pass][input channel][tap][channels of the pass]. Tap t takes the input at a
// pixel to the output at that pixel plus (t / 3 - 1, t % 3 - 1).
#pragma once

#include "grid.h"

namespace ride::RIDE_ISA {

// What becomes of a layer's sums: ReLU, perhaps dropout, and which are nonzero.
template <bool dropout>
struct Activate {
    const Grid& grid;
    Map out;
    const uint16_t* units;  // dropout's, [channels / 16][unit_plane]
    size_t unit_plane;
    float scale;

    template <int vectors>
    RIDE_INLINE void put(int channel, int y, int x, const Vec (&sums)[vectors]) {
        constexpr int width = vectors * lanes;
        uint32_t bits = 0;
        repeat<vectors>(RIDE_EACH(v) { bits |= positive_lanes(sums[v]) << (v * lanes); });
        if constexpr (dropout)
            bits &= get_bits<width>(units, unit_plane, channel, size_t(y) * grid.width + x);
        put_bits<width>(out.mask, grid.mask_plane, channel, grid.mask_at(y, x), bits);
        float* to = out.values + grid.at(y, x) * out.channels + channel;
        repeat<vectors>(RIDE_EACH(v) {
            const Vec value = dropout ? sums[v] * scale : sums[v];
            store(to + v * lanes, only(value, bits >> (v * lanes)));
        });
    }
    template <int vectors>
    RIDE_INLINE void end_pass(int) {}
};

// The gradient with respect to a layer's sums, from that with respect to its output; and its sum
// over all pixels, which is the bias's gradient.
struct Backpropagate {
    const Grid& grid;
    Map out;  // its mask is the layer's own, and only read
    float scale;
    float* bias_gradient;
    Vec totals[2] = {};

    template <int vectors>
    RIDE_INLINE void put(int channel, int y, int x, const Vec (&sums)[vectors]) {
        constexpr int width = vectors * lanes;
        const uint32_t bits =
            get_bits<width>(out.mask, grid.mask_plane, channel, grid.mask_at(y, x));
        float* to = out.values + grid.at(y, x) * out.channels + channel;
        repeat<vectors>(RIDE_EACH(v) {
            const Vec value = only(sums[v] * scale, bits >> (v * lanes));
            store(to + v * lanes, value);
            totals[v] += value;
        });
    }
    template <int vectors>
    RIDE_INLINE void end_pass(int channel) {
        repeat<vectors>(RIDE_EACH(v) {
            float* to = bias_gradient + channel + v * lanes;
            store(to, load(to) + totals[v]);
            totals[v] = Vec{};
        });
    }
};

// Input-stationary: for each nonzero input one broadcast and 9·vectors multiply-adds into a window of
// sums, which slides along the row. What the window leaves above is finished; what it leaves below
// waits in `pending` (two rows of width + 2 pixels) for the next row.
template <int vectors, class Finish>
__attribute__((noinline)) void scatter_convolution(const Grid& grid, const Map& in,
                                                   const float* weights, const float* bias,
                                                   int out_channels, float* pending,
                                                   Finish finish) {
    constexpr int width = vectors * lanes, tap = width, input = 9 * width;
    const int columns = grid.width, channels = in.channels;
    for (int channel = 0; channel < out_channels; channel += width) {
        Vec start[vectors];
        repeat<vectors>(RIDE_EACH(v) {
            start[v] = bias ? load(bias + channel + v * lanes) : Vec{};
        });
        // Rows y and y+1 of the sums, before the inputs of row y are added.
        float *upper = pending, *lower = pending + size_t(columns + 2) * width;
        for (int x = 0; x < columns + 2; x++)
            repeat<vectors>(RIDE_EACH(v) {
                store(upper + x * width + v * lanes, start[v]);
                store(lower + x * width + v * lanes, start[v]);
            });
        for (int y = 0; y < grid.height; y++) {
            // Window: three rows of three pixels; `upper` holds row y-1, `lower` row y.
            Vec window[9 * vectors];
            repeat<vectors>(RIDE_EACH(v) {
                repeat<3>(RIDE_EACH(column) {
                    window[column * vectors + v] = load(upper + v * lanes);
                    window[(3 + column) * vectors + v] = load(lower + v * lanes);
                    window[(6 + column) * vectors + v] = start[v];
                });
            });
            const float* values = in.values + grid.at(y, 0) * channels;
            const uint16_t* mask = in.mask + grid.mask_at(y, 0);
            auto leave = [&](int x) RIDE_LAMBDA {
                Vec sums[vectors];
                repeat<vectors>(RIDE_EACH(v) {
                    sums[v] = window[v];
                    store(upper + x * width + v * lanes, window[3 * vectors + v]);
                    store(lower + x * width + v * lanes, window[6 * vectors + v]);
                });
                if (y) finish.template put<vectors>(channel, y - 1, x, sums);
            };
            for (int x = 0; x < columns; x++) {
                repeat<vectors>(RIDE_EACH(v) {
                    window[2 * vectors + v] = load(upper + (x + 1) * width + v * lanes);
                    window[5 * vectors + v] = load(lower + (x + 1) * width + v * lanes);
                    window[8 * vectors + v] = start[v];
                });
                auto add = [&](uint32_t bits, int first) RIDE_LAMBDA {
                    const float* from = values + size_t(x) * channels + first;
                    const float* by = weights + size_t(first) * input;
                    while (bits) {
                        const size_t i = __builtin_ctz(bits);
                        bits &= bits - 1;
                        const Vec value = splat(from[i]);
                        const float* taps = by + i * input;
                        repeat<9 * vectors>(RIDE_EACH(k) {
                            window[k] += value * load(taps + k * lanes);
                        });
                    }
                };
                static_assert(tap * 9 == input);
                if (channels == 16) {
                    add(mask[x], 0);
                } else {
                    int first = 0;
                    const uint16_t* group = mask + x;
                    for (; first + 32 <= channels; first += 32, group += 2 * grid.mask_plane)
                        add(uint32_t(group[0]) | uint32_t(group[grid.mask_plane]) << 16, first);
                    if (first < channels) add(group[0], first);
                }
                if (x) leave(x - 1);
                repeat<3>(RIDE_EACH(row) {
                    repeat<2 * vectors>(RIDE_EACH(k) {
                        window[row * 3 * vectors + k] = window[row * 3 * vectors + vectors + k];
                    });
                });
            }
            leave(columns - 1);
        }
        for (int x = 0; x < columns; x++) {
            Vec sums[vectors];
            repeat<vectors>(RIDE_EACH(v) { sums[v] = load(upper + x * width + v * lanes); });
            finish.template put<vectors>(channel, grid.height - 1, x, sums);
        }
        finish.template end_pass<vectors>(channel);
        weights += size_t(channels) * input;
    }
}

// Output-stationary: the sums of `tile` pixels of a row, for every input.
template <int vectors, int tile, class Finish>
RIDE_INLINE void gather_tile(const Grid& grid, const float* values, int channels,
                             const float* weights, const Vec (&start)[vectors], int channel, int y,
                             int x, Finish& finish) {
    constexpr int width = vectors * lanes;
    Vec sums[tile][vectors];
    repeat<tile>(RIDE_EACH(p) { repeat<vectors>(RIDE_EACH(v) { sums[p][v] = start[v]; }); });
    for (int t = 0; t < 9; t++) {
        const float* from = values + grid.at(y - (t / 3 - 1), x - (t % 3 - 1)) * channels;
        const float* by = weights + t * width;
        for (int i = 0; i < channels; i++, by += 9 * width) {
            Vec weight[vectors];
            repeat<vectors>(RIDE_EACH(v) { weight[v] = load(by + v * lanes); });
            repeat<tile>(RIDE_EACH(p) {
                const Vec value = splat(from[p * channels + i]);
                repeat<vectors>(RIDE_EACH(v) { sums[p][v] += value * weight[v]; });
            });
        }
    }
    repeat<tile>(RIDE_EACH(p) { finish.template put<vectors>(channel, y, x + p, sums[p]); });
}

template <int vectors, class Finish>
__attribute__((noinline)) void gather_convolution(const Grid& grid, const float* values,
                                                  int channels, const float* weights,
                                                  const float* bias, int out_channels,
                                                  Finish finish) {
    constexpr int width = vectors * lanes, tile = 8;
    for (int channel = 0; channel < out_channels; channel += width) {
        Vec start[vectors];
        repeat<vectors>(RIDE_EACH(v) {
            start[v] = bias ? load(bias + channel + v * lanes) : Vec{};
        });
        for (int y = 0; y < grid.height; y++) {
            int x = 0;
            for (; x + tile <= grid.width; x += tile)
                gather_tile<vectors, tile>(grid, values, channels, weights, start, channel, y, x,
                                           finish);
            for (; x < grid.width; x++)
                gather_tile<vectors, 1>(grid, values, channels, weights, start, channel, y, x,
                                        finish);
        }
        finish.template end_pass<vectors>(channel);
        weights += size_t(channels) * 9 * width;
    }
}

// Above this share of nonzero inputs `gather` is faster.
constexpr double dense_share = 0.8;

template <int vectors, class Finish>
RIDE_INLINE void convolve(const Grid& grid, const Map& in, int64_t nonzero, const float* weights,
                          const float* bias, int out_channels, float* pending, Finish finish) {
    if (double(nonzero) > dense_share * grid.pixels() * in.channels)
        gather_convolution<vectors>(grid, in.values, in.channels, weights, bias, out_channels,
                                    finish);
    else
        scatter_convolution<vectors>(grid, in, weights, bias, out_channels, pending, finish);
}

}  // namespace ride::RIDE_ISA
