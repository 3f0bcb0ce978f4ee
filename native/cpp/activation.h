// What becomes of a convolution's sums, row by row, while they are still in registers.
#pragma once

#include "grid.h"

namespace ride::RIDE_ISA {

// Forward: ReLU, perhaps leaky, perhaps dropout, and which are nonzero; of a leaky one that is all
// that dropout keeps.
template <bool dropout, bool leaky>
struct Activate {
    Map out;
    const uint16_t* units;  // dropout's, [channels / 16][unit_plane]
    size_t unit_plane;
    float scale, slope;

    // Where the sums of one row go, for the channels of one pass.
    template <int vectors>
    struct Row {
        float* values;
        uint16_t* mask;
        const uint16_t* units;
        size_t mask_plane, unit_plane;
        int channels, shift;
        float scale, slope;

        RIDE_INLINE void prefetch(int x) {
            repeat<vectors>(RIDE_EACH(v) {
                prefetch_to_write(values + size_t(x) * channels + v * lanes);
            });
        }
        RIDE_INLINE void put(int x, const Vec (&sums)[vectors]) {
            float* to = values + size_t(x) * channels;
            for_halves<vectors>([&](auto half, auto first, auto count) RIDE_LAMBDA {
                uint32_t bits = leaky ? (uint32_t(1) << (count * lanes)) - 1 : 0;
                if constexpr (!leaky)
                    repeat<count>(RIDE_EACH(v) {
                        bits |= positive_lanes(sums[first + v]) << (v * lanes);
                    });
                if constexpr (dropout)
                    bits &= get_bits<count * lanes>(units + half * unit_plane + x, shift);
                put_bits<count * lanes>(mask + half * mask_plane + x, shift, bits);
                repeat<count>(RIDE_EACH(v) {
                    Vec value = sums[first + v];
                    if constexpr (leaky) value = maximum(value, value * slope);
                    if constexpr (dropout) value = value * scale;
                    store(to + (first + v) * lanes, only(value, bits >> (v * lanes)));
                });
            });
        }
    };
    template <int vectors>
    RIDE_INLINE Row<vectors> row(const Grid& grid, int channel, int y) {
        const size_t group = size_t(channel / 16);
        return {out.at(grid, y, 0) + channel,
                out.mask + group * grid.mask_plane + grid.mask_at(y, 0),
                units + group * unit_plane + size_t(y) * grid.width,
                size_t(grid.mask_plane),
                unit_plane,
                out.channels,
                channel % 16,
                scale,
                slope};
    }
    template <int vectors>
    RIDE_INLINE void end_pass(int) {}
};

// The slope of a leaky activation, by its output.
RIDE_INLINE Vec leak(Vec gradient, Vec output, float slope) {
    return output > 0.0f ? gradient : gradient * slope;
}

// The gradient with respect to a layer's sums, from that with respect to its output; and its sum
// over all pixels, which is the bias's gradient.
template <bool leaky>
struct Backpropagate {
    Map out;     // has no mask of its own
    Map active;  // the layer's outputs
    float scale, slope;
    float* bias_gradient;
    Vec totals[2] = {};

    template <int vectors>
    struct Row {
        float* values;
        const float* active;
        const uint16_t* mask;
        size_t mask_plane;
        int channels, shift;
        float scale, slope;
        Vec (&totals)[2];

        RIDE_INLINE void prefetch(int x) {
            repeat<vectors>(RIDE_EACH(v) {
                prefetch_to_write(values + size_t(x) * channels + v * lanes);
            });
        }
        RIDE_INLINE void put(int x, const Vec (&sums)[vectors]) {
            float* to = values + size_t(x) * channels;
            [[maybe_unused]] const float* from = active + size_t(x) * channels;
            for_halves<vectors>([&](auto half, auto first, auto count) RIDE_LAMBDA {
                const uint32_t bits = get_bits<count * lanes>(mask + half * mask_plane + x, shift);
                repeat<count>(RIDE_EACH(v) {
                    Vec value = sums[first + v] * scale;
                    if constexpr (leaky)
                        value = leak(value, load(from + (first + v) * lanes), slope);
                    value = only(value, bits >> (v * lanes));
                    store(to + (first + v) * lanes, value);
                    totals[first + v] += value;
                });
            });
        }
    };
    template <int vectors>
    RIDE_INLINE Row<vectors> row(const Grid& grid, int channel, int y) {
        return {out.at(grid, y, 0) + channel,
                active.at(grid, y, 0) + channel,
                active.mask + size_t(channel / 16) * grid.mask_plane + grid.mask_at(y, 0),
                size_t(grid.mask_plane),
                out.channels,
                channel % 16,
                scale,
                slope,
                totals};
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

}  // namespace ride::RIDE_ISA
