// The 3×3 convolution, forward and backward: the input gradient is the same operation with other
// weights. Hidden layers `scatter` what is not zero; the first layer, where nothing is zero,
// gathers.
//
// Both read weights as [pass][input channel][tap][channels of the pass]. Tap t takes the input at a
// pixel to the output at that pixel plus (t / 3 - 1, t % 3 - 1). For a hidden layer each pass ends
// in one more input channel, all zero.
#pragma once

#include "activation.h"

namespace ride::RIDE_ISA {

// How far ahead of use the values of a large map are fetched: the way through a row is too
// irregular for the processor to see where it leads.
constexpr int pixels_ahead = 6;

// Input-stationary: for each nonzero input one broadcast and 9·vectors multiply-adds into a window
// of sums, which slides along `rows` rows. What the window leaves above is finished; what it leaves
// below waits in `pending` (two rows of width + 2 pixels of all output channels) for the next rows,
// of this call or of the next one.
//
// Two rows take as many turns at a pixel as the fuller of the two has nonzeros; the other then adds
// the kernel of a channel that does not exist, which is zero. With 16 channels in and out that is
// faster: how often the loop turns is what a processor cannot foresee, and it is asked half as
// often.
//
// `groups`: of 16 input channels, where that is known when compiling, else 0.
template <int vectors, int rows, int groups, class Finish>
__attribute__((noinline)) void scatter_convolution(const Grid& grid, const Map& in, Rows range,
                                                   const float* weights, const float* bias,
                                                   int out_channels, float* pending,
                                                   Finish finish) {
    static_assert(rows == 1 || groups == 1);
    constexpr int width = vectors * lanes, input = 9 * width;
    constexpr std::integral_constant<int, 0> left;
    constexpr std::integral_constant<int, 1> middle;
    constexpr std::integral_constant<int, 2> right;
    const int columns = grid.width, channels = groups ? groups * 16 : in.channels;
    const size_t mask_plane = size_t(grid.mask_plane);
    const bool large = grid.is_large(channels);
    // Rows y-1 and y of the sums, from column -1 on, before the inputs of row y are added.
    for (int channel = 0; channel < out_channels; channel += width) {
        Vec start[vectors];
        repeat<vectors>(RIDE_EACH(v) {
            start[v] = bias ? load(bias + channel + v * lanes) : Vec{};
        });
        float *const upper = pending, *const lower = pending + size_t(columns + 2) * width;
        if (range.begin == 0)
            for (int x = 0; x < columns + 2; x++)
                repeat<vectors>(RIDE_EACH(v) {
                    store(upper + x * width + v * lanes, start[v]);
                    store(lower + x * width + v * lanes, start[v]);
                });
        for (int y = range.begin; y < range.end; y += rows) {
            // Pixels x-1, x, x+1 of rows y-1 to y+rows.
            Vec window[rows + 2][3][vectors];
            auto enter = [&](auto column, int x) RIDE_LAMBDA {
                repeat<vectors>(RIDE_EACH(v) {
                    window[0][column][v] = load(upper + (x + 1) * width + v * lanes);
                    window[1][column][v] = load(lower + (x + 1) * width + v * lanes);
                    repeat<rows>(RIDE_EACH(r) { window[r + 2][column][v] = start[v]; });
                });
            };
            const float* values = in.at(grid, y, 0);
            const float* values_below = in.at(grid, y + 1, 0);
            const uint16_t* mask = in.mask + grid.mask_at(y, 0);
            auto row = finish.template row<vectors>(grid, channel, y - 1);
            auto row_below = finish.template row<vectors>(grid, channel, y);
            auto leave = [&](int x) RIDE_LAMBDA {
                repeat<vectors>(RIDE_EACH(v) {
                    store(upper + (x + 1) * width + v * lanes, window[rows][left][v]);
                    store(lower + (x + 1) * width + v * lanes, window[rows + 1][left][v]);
                });
                if (y) row.put(x, window[0][left]);
                if constexpr (rows == 2) row_below.put(x, window[1][left]);
            };
            auto add = [&](auto r, float number, const float* taps) RIDE_LAMBDA {
                const Vec value = splat(number);
                repeat<9>(RIDE_EACH(t) {
                    repeat<vectors>(RIDE_EACH(v) {
                        window[r + t / 3][t % 3][v] +=
                            value * load(taps + (t * vectors + v) * lanes);
                    });
                });
            };
            enter(left, -1);
            enter(middle, 0);
            for (int x = 0; x < columns; x++) {
                enter(right, x + 1);
                if (large) {
                    for (int group = 0; group < channels; group += 16)
                        prefetch(values + size_t(x + pixels_ahead) * channels + group);
                    row.prefetch(x + pixels_ahead);
                    if constexpr (rows == 2) {
                        prefetch(values_below + size_t(x + pixels_ahead) * channels);
                        row_below.prefetch(x + pixels_ahead);
                    }
                }
                auto add_all = [&](uint32_t bits, int first) RIDE_LAMBDA {
                    const float* from = values + size_t(x) * channels + first;
                    const float* by = weights + size_t(first) * input;
                    for (; bits; bits &= bits - 1) {
                        const size_t i = __builtin_ctz(bits);
                        add(std::integral_constant<int, 0>{}, from[i], by + i * input);
                    }
                };
                const uint16_t* half = mask + x;
                if constexpr (rows == 2) {
                    const float* from = values + size_t(x) * channels;
                    const float* below = values_below + size_t(x) * channels;
                    uint32_t bits = half[0], bits_below = half[grid.mask_row];
                    constexpr uint32_t none = 1u << 16;
                    for (; bits | bits_below; bits &= bits - 1, bits_below &= bits_below - 1) {
                        const size_t i = __builtin_ctz(bits | none);
                        const size_t j = __builtin_ctz(bits_below | none);
                        add(std::integral_constant<int, 0>{}, from[i], whole(weights + i * input));
                        add(std::integral_constant<int, 1>{}, below[j], whole(weights + j * input));
                    }
                } else if constexpr (groups == 2) {
                    add_all(half[0] | uint32_t(half[mask_plane]) << 16, 0);
                } else {
                    for (int first = 0; first < channels; first += 16, half += mask_plane)
                        add_all(half[0], first);
                }
                if (x) leave(x - 1);
                repeat<rows + 2>(RIDE_EACH(r) {
                    repeat<vectors>(RIDE_EACH(v) {
                        window[r][left][v] = window[r][middle][v];
                        window[r][middle][v] = window[r][right][v];
                    });
                });
            }
            leave(columns - 1);
        }
        if (range.end == grid.height && (rows == 1 || grid.height % 2 == 0)) {
            auto row = finish.template row<vectors>(grid, channel, grid.height - 1);
            for (int x = 0; x < columns; x++) {
                Vec sums[vectors];
                repeat<vectors>(RIDE_EACH(v) {
                    sums[v] = load(upper + (x + 1) * width + v * lanes);
                });
                row.put(x, sums);
            }
        }
        finish.template end_pass<vectors>(channel);
        weights += size_t(channels + 1) * input;
        pending += size_t(2) * (columns + 2) * width;
    }
}

// Output-stationary: the sums of `tile` pixels of a row, for every input. `inputs`: input channels
// where that is known when compiling, else 0. (In hidden layers this is no faster than `scatter`
// even where nine values of ten are not zero.)
template <int vectors, int tile, int inputs, class Row>
RIDE_INLINE void gather_tile(const Grid& grid, const float* values, int channels,
                             const float* weights, const Vec (&start)[vectors], int y, int x,
                             Row& row) {
    constexpr int width = vectors * lanes;
    Vec sums[tile][vectors];
    repeat<tile>(RIDE_EACH(p) { repeat<vectors>(RIDE_EACH(v) { sums[p][v] = start[v]; }); });
    const float* centre = values + grid.at(y, x) * channels;
    auto add = [&](int line, int column, int i) RIDE_LAMBDA {
        const float* from = centre + (ptrdiff_t(line) * grid.row + column) * channels + i;
        const float* by = weights + (size_t(i) * 9 + (1 - line) * 3 + (1 - column)) * width;
        Vec weight[vectors];
        repeat<vectors>(RIDE_EACH(v) { weight[v] = load(by + v * lanes); });
        repeat<tile>(RIDE_EACH(p) {
            const Vec value = splat(from[p * channels]);
            repeat<vectors>(RIDE_EACH(v) { sums[p][v] += value * weight[v]; });
        });
    };
    for (int line = -1; line <= 1; line++)
        repeat<3>(RIDE_EACH(column) {
            if constexpr (inputs > 0)
                repeat<inputs>(RIDE_EACH(i) { add(line, column - 1, i); });
            else
                for (int i = 0; i < channels; i++) add(line, column - 1, i);
        });
    repeat<tile>(RIDE_EACH(p) { row.put(x + p, sums[p]); });
}

template <int vectors, int inputs, class Finish>
__attribute__((noinline)) void gather_convolution(const Grid& grid, const float* values,
                                                  int in_channels, Rows range,
                                                  const float* weights, const float* bias,
                                                  int out_channels, Finish finish) {
    constexpr int width = vectors * lanes;
    const int channels = inputs ? inputs : in_channels;
    const bool large = grid.is_large(out_channels);
    for (int channel = 0; channel < out_channels; channel += width) {
        Vec start[vectors];
        repeat<vectors>(RIDE_EACH(v) {
            start[v] = bias ? load(bias + channel + v * lanes) : Vec{};
        });
        for (int y = range.begin; y < range.end; y++) {
            auto row = finish.template row<vectors>(grid, channel, y);
            int x = 0;
            auto tiles = [&](auto tile) RIDE_LAMBDA {
                for (; x + tile <= grid.width; x += tile) {
                    // The tile after this one, where tiles have eight pixels.
                    if (large) repeat<tile>(RIDE_EACH(p) { row.prefetch(x + 8 + p); });
                    gather_tile<vectors, tile, inputs>(grid, values, channels, weights, start, y,
                                                       x, row);
                }
            };
            tiles(std::integral_constant<int, 8>{});
            tiles(std::integral_constant<int, 4>{});
            tiles(std::integral_constant<int, 1>{});
        }
        finish.template end_pass<vectors>(channel);
        weights += size_t(channels) * 9 * width;
    }
}

// A hidden layer, or the gradient with respect to its input: adds these rows of its input. Returns
// the first row that is not added: where two rows go at a time, one may be left for the next call.
template <int vectors, class Finish>
RIDE_INLINE int convolve(const Grid& grid, const Map& in, Rows range, const float* weights,
                         const float* bias, int out_channels, float* pending, Finish finish) {
    // Two rows' windows need twelve registers a vector.
    constexpr int rows = lanes == 16 && vectors == 1 ? 2 : 1;
    if (in.channels == 16) {
        if (range.end < grid.height) range.end -= (range.end - range.begin) % rows;
        scatter_convolution<vectors, rows, 1>(grid, in, range, weights, bias, out_channels,
                                              pending, finish);
    } else if (in.channels == 32) {
        scatter_convolution<vectors, 1, 2>(grid, in, range, weights, bias, out_channels, pending,
                                           finish);
    } else {
        scatter_convolution<vectors, 1, 0>(grid, in, range, weights, bias, out_channels, pending,
                                           finish);
    }
    return range.end;
}

// The first layer: few inputs, none of them zero.
template <int vectors, class Finish>
RIDE_INLINE void convolve_image(const Grid& grid, const float* image, int channels, Rows range,
                                const float* weights, const float* bias, int out_channels,
                                Finish finish) {
    if (channels == 1)
        gather_convolution<vectors, 1>(grid, image, 1, range, weights, bias, out_channels, finish);
    else if (channels == 3)
        gather_convolution<vectors, 3>(grid, image, 3, range, weights, bias, out_channels, finish);
    else
        gather_convolution<vectors, 0>(grid, image, channels, range, weights, bias, out_channels,
                                       finish);
}

}  // namespace ride::RIDE_ISA
