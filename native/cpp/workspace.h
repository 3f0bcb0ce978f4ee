// The buffers of one fit.
#pragma once

#include "last_layer.h"
#include "parameters.h"
#include "weight_gradient.h"

namespace ride::RIDE_ISA {

// Everything a fit needs, carved out of one block of memory; with no block, its size is counted.
struct Workspace {
    Layers all;
    Grid grid;
    char* memory;
    size_t used = 0;

    // What a convolution reads all the time lies side by side: its weights, then `pending`. Within
    // 64 KiB that are aligned to it, no two of their cache lines look alike to a first-level cache
    // that predicts the way from some bits of the address; elsewhere, chance made layers 40%
    // slower.
    float *staged, *pending;
    float *weights, *gradient, *first, *second, *largest, *repacked;
    float *image, *noise, *inputs;
    Map hidden[most_layers], slopes[2];
    uint16_t *units, *last_mask;
    uint32_t* words;
    Kept kept;

    Workspace(const Plan& plan, void* block)
        : all(plan), grid(plan), memory(static_cast<char*>(block)) {
        int widest = 0;
        for (int l = 0; l < plan.hidden_layers; l++)
            if (plan.widths[l] > widest) widest = plan.widths[l];
        size_t largest_kernel = 0;
        for (int l = 1; l + 1 < all.count; l++) {
            const int wider = all.layers[l].in > all.layers[l].out ? all.layers[l].in
                                                                   : all.layers[l].out;
            const size_t kernel = size_t(9) * wider * (wider + 1);
            if (kernel > largest_kernel) largest_kernel = kernel;
        }
        staged = take<float>(largest_kernel);
        pending = take<float>(size_t(2) * (grid.width + 2) * 2 * lanes);
        for (float** part : {&weights, &gradient, &first, &second, &largest, &repacked})
            *part = take<float>(all.size);
        const size_t pixels = size_t(grid.pixels()), colours = size_t(plan.image_channels);
        image = take<float>(colours * pixels);
        noise = take<float>(colours * pixels + 4);
        inputs = take<float>(grid.values(plan.image_channels));
        for (int l = 0; l < plan.hidden_layers; l++) hidden[l] = take_map(plan.widths[l]);
        for (Map& map : slopes) map = {take<float>(grid.values(widest)), nullptr, widest};
        last_mask = take<uint16_t>(grid.masks(widest));
        units = take<uint16_t>(size_t(widest / 16) * (pixels + 1) + 8);
        words = take<uint32_t>(size_t(widest) * tile_rows);
        kept.stride = int(pixels + lanes - 1) / lanes * lanes;
        kept.list = take<int>(pixels + 4 * (lanes + 4));
        kept.corners = take<int>(pixels);
        kept.outputs = take<float>(colours * kept.stride);
        kept.targets = take<float>(colours * kept.stride);
    }

    template <class T>
    T* take(size_t count) {
        T* part = memory ? reinterpret_cast<T*>(memory + used) : nullptr;
        // Two cache lines more than needed: equal arrays then do not start in the same cache set.
        used += (count * sizeof(T) + 63) / 64 * 64 + 128;
        return part;
    }
    Map take_map(int channels) {
        float* values = take<float>(grid.values(channels));
        return {values, take<uint16_t>(grid.masks(channels)), channels};
    }
};

}  // namespace ride::RIDE_ISA
