// The last layer and the loss, at the pixels that the loss keeps and at no others.
#pragma once

#include "grid.h"
#include "parameters.h"

namespace ride::RIDE_ISA {

struct Kept {
    int count;
    int stride;     // of the arrays below that are [image channels][stride]
    int* list;      // pixel numbers, ascending
    int* corners;   // where in a map their 3×3 window begins, counted in pixels
    float* outputs;
    float* targets;
};

inline void find_corners(const Grid& grid, Kept& kept) {
    int y = 0, row_end = grid.width;
    for (int k = 0; k < kept.count; k++) {
        while (kept.list[k] >= row_end) y++, row_end += grid.width;
        kept.corners[k] = y * grid.row + kept.list[k] - (row_end - grid.width);
    }
}

// Cephes' expf.
RIDE_INLINE Vec exponential(Vec x) {
    x = x > 87.0f ? splat(87.0f) : x;
    x = x < -87.0f ? splat(-87.0f) : x;
    const Vec scaled = x * 1.44269504f;
    const Ints n = __builtin_convertvector(scaled + (scaled < 0.0f ? splat(-0.5f) : splat(0.5f)),
                                           Ints);
    const Vec whole = __builtin_convertvector(n, Vec);
    Vec r = x - whole * 0.693359375f;
    r = r + whole * 2.12194440e-4f;
    Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 0.5f;
    const Vec result = p * (r * r) + r + 1.0f;
    return result * as_floats(reinterpret_cast<Words>((n + 127) << 23));
}

RIDE_INLINE Vec sigmoid(Vec x) { return 1.0f / (1.0f + exponential(-x)); }

inline void last_forward(const Plan& plan, const Layer& layer, const Grid& grid, const Map& in,
                         const float* weights, Kept& kept) {
    const int channels = layer.in;
    for (int c = 0; c < layer.out; c++) {
        const float* by = weights + layer.weights + size_t(c) * 9 * channels;
        const float bias = weights[layer.bias + c];
        float* outputs = kept.outputs + size_t(c) * kept.stride;
        for (int k = 0; k < kept.count; k++) {
            const float* window = in.values + size_t(kept.corners[k]) * channels;
            Vec total[3] = {};
            for (int i = 0; i < channels; i += lanes)
                repeat<9>(RIDE_EACH(t) {
                    const Vec value = load(window + (t / 3 * grid.row + t % 3) * channels + i);
                    total[t % 3] += value * load(by + t * channels + i);
                });
            outputs[k] = sum(total[0] + total[1] + total[2]) + bias;
        }
        if (plan.sigmoid)
            for (int k = 0; k < kept.count; k += lanes)
                store(outputs + k, sigmoid(load(outputs + k)));
    }
}

// The sum of squared differences; `outputs` becomes half its derivative with respect to the last
// layer's sums.
inline double squares_and_slopes(const Plan& plan, Kept& kept) {
    double total = 0;
    for (int c = 0; c < plan.image_channels; c++) {
        Vec squares = {};
        float* outputs = kept.outputs + size_t(c) * kept.stride;
        const float* targets = kept.targets + size_t(c) * kept.stride;
        for (int k = 0; k < kept.count; k += lanes) {
            const int rest = kept.count - k;
            const uint32_t chosen = rest < lanes ? (uint32_t(1) << rest) - 1 : ~uint32_t(0);
            const Vec y = load(outputs + k);
            const Vec difference = only(y - load(targets + k), chosen);
            squares += difference * difference;
            store(outputs + k, plan.sigmoid ? difference * (y - y * y) : difference);
        }
        total += sum(squares);
    }
    return total;
}

// The gradients of the last layer's weights and biases, added to `gradient`; and that of the last
// hidden layer's sums, with a mask of its own, whose sums are added to `bias_gradient`.
inline void last_backward(const Layer& layer, const Grid& grid, const Map& in, float scale,
                          const float* weights, const Kept& kept, float* gradient,
                          float* bias_gradient, const Map& out) {
    const int channels = layer.in;
    auto window_at = [&](const Map& map, int k) { return map.values + size_t(kept.corners[k]) * channels; };
    auto tap_at = [&](int t) { return (t / 3 * grid.row + t % 3) * channels; };
    for (int c = 0; c < layer.out; c++) {
        const float* slopes = kept.outputs + size_t(c) * kept.stride;
        float bias = 0;
        for (int k = 0; k < kept.count; k++) bias += slopes[k];
        gradient[layer.bias + c] += bias;
        float* sums = gradient + layer.weights + size_t(c) * 9 * channels;
        for (int i = 0; i < channels; i += lanes) {
            Vec total[9];
            repeat<9>(RIDE_EACH(t) { total[t] = load(sums + t * channels + i); });
            for (int k = 0; k < kept.count; k++) {
                const float* window = window_at(in, k) + i;
                const Vec slope = splat(slopes[k]);
                repeat<9>(RIDE_EACH(t) { total[t] += slope * load(window + tap_at(t)); });
            }
            repeat<9>(RIDE_EACH(t) { store(sums + t * channels + i, total[t]); });
        }
    }
    std::memset(out.values, 0, grid.values(channels) * 4);
    for (int i = 0; i < channels; i += lanes)
        for (int k = 0; k < kept.count; k++) {
            float* window = window_at(out, k) + i;
            repeat<9>(RIDE_EACH(t) {
                Vec value = load(window + tap_at(t));
                for (int c = 0; c < layer.out; c++) {
                    const float slope = kept.outputs[size_t(c) * kept.stride + k];
                    const size_t at = layer.weights + (size_t(c) * 9 + t) * channels + i;
                    value += splat(slope) * load(weights + at);
                }
                store(window + tap_at(t), value);
            });
        }
    clear_border(grid, out);
    // 16 channels at a time, so that each of their bits is written once.
    constexpr int parts = 16 / lanes;
    for (int channel = 0; channel < channels; channel += 16) {
        Vec totals[parts] = {};
        const size_t plane = size_t(channel / 16) * grid.mask_plane;
        for (int y = 0; y < grid.height; y++)
            for (int x = 0; x < grid.width; x++) {
                float* at = out.values + grid.at(y, x) * channels + channel;
                const size_t pixel = plane + grid.mask_at(y, x);
                const uint32_t active = in.mask[pixel];
                uint32_t bits = 0;
                repeat<parts>(RIDE_EACH(part) {
                    const Vec value =
                        only(load(at + part * lanes) * scale, active >> (part * lanes));
                    store(at + part * lanes, value);
                    totals[part] += value;
                    bits |= nonzero_lanes(value) << (part * lanes);
                });
                out.mask[pixel] = uint16_t(bits);
            }
        repeat<parts>(RIDE_EACH(part) {
            float* to = bias_gradient + channel + part * lanes;
            store(to, load(to) + totals[part]);
        });
    }
}

}  // namespace ride::RIDE_ISA
