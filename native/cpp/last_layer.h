// The last layer and the loss, at the pixels that the loss keeps and at no others. Its kernel has
// `taps` taps: 9, or 1.
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

// From the corner of a pixel's window to where a tap is, counted in pixels; and to the pixel.
template <int taps>
RIDE_INLINE size_t tap_at(const Grid& grid, int tap) {
    return taps == 9 ? size_t(tap / 3 * grid.row + tap % 3) : size_t(grid.row + 1);
}
RIDE_INLINE size_t centre(const Grid& grid, int corner) { return size_t(corner + grid.row + 1); }

// Clears the dropout units of the last hidden layer but one at pixels that no kept pixel's output
// depends on; the gradient is zero there too. At a mask ratio of 0.9, 3×3 kernels leave 7% of them.
// `near`, of four rows and columns more than the image, becomes the pixels whose row is near.
template <int taps>
inline void drop_unseen(const Grid& grid, const Kept& kept, uint16_t* near, int groups,
                        size_t unit_plane, uint16_t* units) {
    if (kept.count == grid.pixels()) return;
    constexpr int reach = taps == 9 ? 2 : 1, across = 2 * reach + 1;
    const int width = grid.width, stride = width + 2 * reach;
    std::memset(near, 0, size_t(grid.height + 2 * reach) * stride * 2);
    uint16_t* row = near + reach * stride;
    for (int k = 0, row_begin = 0; k < kept.count; k++) {
        while (kept.list[k] >= row_begin + width) row += stride, row_begin += width;
        repeat<across>(RIDE_EACH(i) { row[kept.list[k] - row_begin + i] = 0xFFFF; });
    }
    for (int group = 0; group < groups; group++, units += unit_plane)
        for (int y = 0; y < grid.height; y++)
            for (int x = 0; x < width; x++) {
                uint16_t seen = 0;
                repeat<across>(RIDE_EACH(r) { seen |= near[(y + r) * stride + x + reach]; });
                units[y * width + x] &= seen;
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

// Pixels are taken so many at a time, whose windows stay in the caches from one channel to the
// next.
constexpr int pixels_at_once = 128;

template <class Work>
RIDE_INLINE void for_pixels(const Kept& kept, Work&& work) {
    for (int begin = 0; begin < kept.count; begin += pixels_at_once) {
        const int end = begin + pixels_at_once;
        work(begin, end < kept.count ? end : kept.count);
    }
}

// `inputs`: the network's, of which a residual output is subtracted.
template <int taps>
inline void last_forward(const Plan& plan, const Layer& layer, const Grid& grid, const Map& in,
                         const float* weights, const float* inputs, Kept& kept) {
    const int channels = layer.in;
    for_pixels(kept, [&](int begin, int end) {
        for (int c = 0; c < layer.out; c++) {
            const float* by = weights + layer.weights + size_t(c) * taps * channels;
            const float bias = weights[layer.bias + c];
            float* outputs = kept.outputs + size_t(c) * kept.stride;
            for (int k = begin; k < end; k++) {
                const float* window = in.values + size_t(kept.corners[k]) * channels;
                Vec total[3] = {};
                for (int i = 0; i < channels; i += lanes)
                    repeat<taps>(RIDE_EACH(t) {
                        const Vec value = load(window + tap_at<taps>(grid, t) * channels + i);
                        total[t % 3] += value * load(by + t * channels + i);
                    });
                outputs[k] = sum(total[0] + total[1] + total[2]) + bias;
            }
            if (plan.residual)
                for (int k = begin; k < end; k++)
                    outputs[k] =
                        inputs[centre(grid, kept.corners[k]) * layer.out + c] - outputs[k];
            if (plan.sigmoid)
                for (int k = begin; k < end; k += lanes)
                    store(outputs + k, sigmoid(load(outputs + k)));
        }
    });
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
            const Vec slope = plan.residual ? -difference : difference;
            store(outputs + k, plan.sigmoid ? slope * (y - y * y) : slope);
        }
        total += sum(squares);
    }
    return total;
}

// The gradients of the last layer's weights and biases, added to `gradient`.
template <int taps>
inline void last_weight_gradient(const Layer& layer, const Grid& grid, const Map& in,
                                 const Kept& kept, float* gradient) {
    const int channels = layer.in;
    for_pixels(kept, [&](int begin, int end) {
        for (int c = 0; c < layer.out; c++) {
            const float* slopes = kept.outputs + size_t(c) * kept.stride;
            float bias = 0;
            for (int k = begin; k < end; k++) bias += slopes[k];
            gradient[layer.bias + c] += bias;
            float* sums = gradient + layer.weights + size_t(c) * taps * channels;
            for (int i = 0; i < channels; i += lanes) {
                Vec total[taps];
                repeat<taps>(RIDE_EACH(t) { total[t] = load(sums + t * channels + i); });
                for (int k = begin; k < end; k++) {
                    const float* window = in.values + size_t(kept.corners[k]) * channels + i;
                    const Vec slope = splat(slopes[k]);
                    repeat<taps>(RIDE_EACH(t) {
                        total[t] += slope * load(window + tap_at<taps>(grid, t) * channels);
                    });
                }
                repeat<taps>(RIDE_EACH(t) { store(sums + t * channels + i, total[t]); });
            }
        }
    });
}

// The gradient with respect to the sums of a row of the last hidden layer, from that with respect
// to its outputs: where it is active, times `scale`, and times `slope` where it leaks; with a mask
// of its own, and its sums added to `bias_gradient`.
inline void finish_row(const Grid& grid, const Map& active, int y, float scale, float slope,
                       float* bias_gradient, const Map& out) {
    // 16 channels at a time, so that each of their bits is written once.
    constexpr int parts = 16 / lanes;
    for (int channel = 0; channel < out.channels; channel += 16) {
        const size_t mask = size_t(channel / 16) * grid.mask_plane + grid.mask_at(y, 0);
        float* at = out.values + grid.at(y, 0) * out.channels + channel;
        const float* from = active.values + grid.at(y, 0) * out.channels + channel;
        float* biases = bias_gradient + channel;
        Vec totals[parts];
        repeat<parts>(RIDE_EACH(part) { totals[part] = load(biases + part * lanes); });
        for (int x = 0; x < grid.width; x++, at += out.channels, from += out.channels) {
            const uint32_t bits = active.mask[mask + x];
            uint32_t nonzero = 0;
            repeat<parts>(RIDE_EACH(part) {
                Vec value = load(at + part * lanes) * scale;
                if (slope != 0) value = leak(value, load(from + part * lanes), slope);
                value = only(value, bits >> (part * lanes));
                store(at + part * lanes, value);
                totals[part] += value;
                nonzero |= nonzero_lanes(value) << (part * lanes);
            });
            out.mask[mask + x] = uint16_t(nonzero);
        }
        repeat<parts>(RIDE_EACH(part) { store(biases + part * lanes, totals[part]); });
    }
}

// That gradient for all rows, one after the other while they are in the caches.
template <int taps>
inline void last_input_gradient(const Layer& layer, const Grid& grid, const Map& active,
                                float scale, float slope, const float* weights, const Kept& kept,
                                float* bias_gradient, const Map& out) {
    const int channels = layer.in;
    const size_t row = size_t(grid.row) * channels;
    std::memset(out.values, 0, 2 * row * 4);
    for (int y = 0, k = 0; y < grid.height; y++) {
        std::memset(out.values + (y + 2) * row, 0, row * 4);
        for (; k < kept.count && kept.corners[k] < (y + 1) * grid.row; k++)
            for (int i = 0; i < channels; i += lanes) {
                float* window = out.values + size_t(kept.corners[k]) * channels + i;
                repeat<taps>(RIDE_EACH(t) {
                    float* at = window + tap_at<taps>(grid, t) * channels;
                    Vec value = load(at);
                    for (int c = 0; c < layer.out; c++) {
                        const size_t kernel = (size_t(c) * taps + t) * channels + i;
                        value += splat(kept.outputs[size_t(c) * kept.stride + k]) *
                                 load(weights + layer.weights + kernel);
                    }
                    store(at, value);
                });
            }
        if (y) finish_row(grid, active, y - 1, scale, slope, bias_gradient, out);
    }
    finish_row(grid, active, grid.height - 1, scale, slope, bias_gradient, out);
    clear_border(grid, out);
}

}  // namespace ride::RIDE_ISA
