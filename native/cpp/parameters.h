// Weights in the order the kernels read them, and Adam.
#pragma once

#include <cmath>

#include "grid.h"

namespace ride::RIDE_ISA {

// Pass over "vector" channels, then each "scalar" channel, nine taps, the channels of the pass.
struct Packing {
    int vector_channels, scalar_channels;

    RIDE_INLINE int width() const { return vectors_of_pass(vector_channels) * lanes; }
    RIDE_INLINE size_t at(int vector_channel, int scalar_channel, int tap) const {
        const int w = width();
        const size_t pass = size_t(vector_channel / w) * scalar_channels + scalar_channel;
        return (pass * 9 + tap) * w + vector_channel % w;
    }
};

enum class Place { first, hidden, last };

// What a hidden convolution reads, see convolution.h.
inline Packing with_a_zero(const Packing& packing) {
    return {packing.vector_channels, packing.scalar_channels + 1};
}
inline void clear_zero(const Packing& staged, float* weights) {
    const int width = staged.width();
    for (int channel = 0; channel < staged.vector_channels; channel += width)
        std::memset(weights + staged.at(channel, staged.scalar_channels - 1, 0), 0,
                    size_t(9) * width * 4);
}

struct Layer {
    Place place;
    int in, out, taps;
    size_t weights, bias;  // offsets

    // What a forward convolution reads. Output pixel p takes its input at p + tap - 1, so
    // `Packing`, which says where an input goes, counts the taps backwards.
    Packing forward() const { return {out, in}; }
    // What the convolution of the input gradient reads.
    Packing backward() const { return {in, out}; }

    // The master copy: the first layer's is the forward one, as no gradient goes below it; the last
    // layer's is [out][tap][in].
    size_t at(int c_out, int c_in, int tap) const {
        if (place == Place::first) return weights + forward().at(c_out, c_in, 8 - tap);
        if (place == Place::hidden) return weights + backward().at(c_in, c_out, tap);
        return weights + (size_t(c_out) * taps + tap) * in + c_in;
    }
};

struct Layers {
    int count;
    size_t size = 0;  // floats, every part rounded up to 16
    Layer layers[most_layers + 1];

    explicit Layers(const Plan& plan) : count(plan.hidden_layers + 1) {
        for (int l = 0; l < count; l++) {
            Layer& layer = layers[l];
            layer.place = l == 0 ? Place::first : l + 1 < count ? Place::hidden : Place::last;
            layer.in = l ? plan.widths[l - 1] : plan.image_channels;
            layer.out = l + 1 < count ? plan.widths[l] : plan.image_channels;
            layer.taps = l + 1 < count ? 9 : plan.last_taps;
            layer.weights = size;
            size += size_t(layer.taps) * layer.in * layer.out;
            layer.bias = size;
            size += size_t(layer.out + 15) / 16 * 16;
        }
    }
};

// Between PyTorch's order and ours: calls copy(theirs, ours) for every parameter.
template <class Copy>
void for_parameters(const Layers& all, Copy&& copy) {
    size_t theirs = 0;
    for (int l = 0; l < all.count; l++) {
        const Layer& layer = all.layers[l];
        for (int c_out = 0; c_out < layer.out; c_out++)
            for (int c_in = 0; c_in < layer.in; c_in++)
                for (int tap = 0; tap < layer.taps; tap++) copy(theirs++, layer.at(c_out, c_in, tap));
        for (int c_out = 0; c_out < layer.out; c_out++) copy(theirs++, layer.bias + c_out);
    }
}

// From one packing to another whose vectors run over the first one's scalars, taps backwards.
template <bool add>
void repack(const Packing& packing, const float* from, const Packing& other, float* to) {
    for (int i = 0; i < packing.vector_channels; i += lanes)
        for (int j = 0; j < packing.scalar_channels; j += lanes)
            for (int tap = 0; tap < 9; tap++) {
                Vec rows[lanes];
                repeat<lanes>(RIDE_EACH(r) { rows[r] = load(from + packing.at(i, j + r, tap)); });
                transpose(rows);
                repeat<lanes>(RIDE_EACH(r) {
                    float* row = to + other.at(j, i + r, 8 - tap);
                    store(row, add ? load(row) + rows[r] : rows[r]);
                });
            }
}

// One step of Adam (Kingma and Ba 2015) with PyTorch's weight decay and AMSGrad, on everything at
// once. `scale` makes the loss's gradient of the summed one; t counts the steps, from 1.
inline void adam(const Plan& plan, size_t size, double rate, int64_t t, float scale,
                 const float* gradient, float* weights, float* first, float* second,
                 float* largest) {
    const float step = float(rate / (1 - std::pow(0.9, double(t))));
    const float correction = float(1 / std::sqrt(1 - std::pow(0.999, double(t))));
    const float decay = plan.weight_decay;
    for (size_t i = 0; i < size; i += lanes) {
        const Vec weight = load(weights + i);
        const Vec slope = load(gradient + i) * scale + weight * decay;
        const Vec m = load(first + i) * 0.9f + slope * 0.1f;
        const Vec v = load(second + i) * 0.999f + slope * slope * 0.001f;
        store(first + i, m);
        store(second + i, v);
        Vec spread = v;
        if (plan.amsgrad) {
            spread = maximum(load(largest + i), v);
            store(largest + i, spread);
        }
        const Vec root = square_root(spread) * correction + 1e-8f;
        store(weights + i, weight - quotient(m * step, root));
    }
}

}  // namespace ride::RIDE_ISA
