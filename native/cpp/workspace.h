// The buffers of one fit.
#pragma once

#include "last_layer.h"
#include "parameters.h"
#include "weight_gradient.h"

namespace ride::RIDE_ISA {

// What a convolution reads all the time lies side by side: its weights, then the sums that wait for
// the next row. Within 64 KiB that are aligned to it, no two of their cache lines look alike to a
// first-level cache that predicts the way from some bits of the address; elsewhere, chance made
// layers 40% slower.
struct Staging {
    float *weights, *pending;
};

// Everything a fit needs, carved out of one block of memory; with no block, its size is counted.
struct Workspace {
    Layers all;
    Grid grid;
    char* memory;
    size_t used = 0;

    // The maps of a large image do not fit into a cache. Its layers take turns at so many rows, see
    // `Passes`; those of a small image take turns at all rows.
    bool banded;
    int band;
    Staging staging[most_layers];  // of the hidden convolutions, from 1
    float *weights, *gradient, *first, *second, *largest, *repacked;
    float *image, *noise, *inputs;
    Map hidden[most_layers];
    Map slopes[most_layers];  // the gradient with respect to the sums that become `hidden`
    uint16_t *units[most_layers], *near;
    uint32_t* words;
    Kept kept;

    Workspace(const Plan& plan, void* block)
        : all(plan), grid(plan), memory(static_cast<char*>(block)) {
        const int top = plan.hidden_layers - 1;
        int widest = 0;
        for (int l = 0; l <= top; l++)
            if (plan.widths[l] > widest) widest = plan.widths[l];
        banded = grid.is_large(widest);
        band = banded ? 8 : grid.height;
        for (int l = 1; l <= top; l++)
            staging[l] = banded || l == 1 ? take_staging(widest) : staging[1];
        for (float** part : {&weights, &gradient, &first, &second, &largest, &repacked})
            *part = take<float>(all.size);
        const size_t pixels = size_t(grid.pixels()), colours = size_t(plan.image_channels);
        image = take<float>(colours * pixels);
        noise = take<float>(colours * pixels + 4);
        inputs = take<float>(grid.values(grid.height, plan.image_channels));
        for (int l = 0; l <= top; l++) {
            const int channels = plan.widths[l];
            hidden[l] = {take<float>(grid.values(grid.height, channels)),
                         take<uint16_t>(grid.masks(channels)), channels, -1};
            units[l] = plan.drops(l) ? take<uint16_t>(size_t(channels / 16) * (pixels + 1) + 8)
                                      : nullptr;
        }
        near = take<uint16_t>(size_t(grid.height + 4) * (grid.width + 4));
        take_slopes(top, widest);
        words = take<uint32_t>(size_t(widest) * tile_rows);
        kept.stride = int(pixels + lanes - 1) / lanes * lanes;
        kept.list = take<int>(pixels + 4 * (lanes + 4));
        kept.corners = take<int>(pixels);
        kept.outputs = take<float>(colours * kept.stride);
        kept.targets = take<float>(colours * kept.stride);
    }

private:
    template <class T>
    T* take(size_t count) {
        T* part = memory ? reinterpret_cast<T*>(memory + used) : nullptr;
        // Two cache lines more than needed: equal arrays then do not start in the same cache set.
        used += (count * sizeof(T) + 63) / 64 * 64 + 128;
        return part;
    }

    Staging take_staging(int widest) {
        float* weights = take<float>(size_t(9) * widest * (widest + 1));
        return {weights, take<float>(size_t(2) * (grid.width + 2) * widest)};
    }

    // The uppermost has all rows, and a mask of its own. Those below are nonzero where the layer's
    // outputs are. Of a small image two buffers of all rows take turns. Of a large one every layer
    // keeps the rows of a band, and the up to seven before and after it that the weight gradient's
    // tiles, their kernels and the lag between layers need.
    void take_slopes(int top, int widest) {
        const int rows = banded ? 2 * band : grid.height;
        float* buffers[2] = {take<float>(grid.values(grid.height, widest)), nullptr};
        slopes[top] = {buffers[0], take<uint16_t>(grid.masks(widest)), hidden[top].channels, -1};
        for (int l = top - 1; l >= 0; l--) {
            float*& buffer = buffers[(top - l) % 2];
            if (banded || l == top - 1) buffer = take<float>(grid.values(rows, widest));
            slopes[l] = {buffer, hidden[l].mask, hidden[l].channels, banded ? rows - 1 : -1};
        }
    }
};

}  // namespace ride::RIDE_ISA
