// What a fit is told: the network, the size, and whose random numbers. Plain data, which the
// kernels of every instruction set read.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ride {

constexpr int most_layers = 64;
constexpr int most_image_channels = 16;

struct Plan {
    int height, width;              // of what one step sees: the image, or a crop of it
    int image_height, image_width;  // of the image
    int image_channels;
    int hidden_layers;
    int widths[most_layers];     // channels of each hidden layer, multiples of 16
    bool dropout[most_layers];   // whether dropout follows that layer
    int digits[8];               // binary digits of the share that dropout keeps
    int digit_count;             // 0: no dropout
    float dropout_scale;         // one over that share
    float slope;                 // of the activation below zero; 0 is ReLU
    int last_taps;               // of the last layer's kernel: 9, or 1
    float input_sigma[most_image_channels], target_sigma[most_image_channels];
    bool noisy_input, noisy_target, sigmoid, amsgrad;
    bool residual;      // the layers' output is subtracted from the input
    float recorrupted;  // 0, or 1/a² of a target that shares the input's noise: x - (z - x)/a²
    bool norm_loss;              // the un-squared norm, else the mean square
    uint64_t mask_bound;         // a pixel is kept where its word lies below; 2^32 keeps all
    int batch;                   // samples a step
    float weight_decay;

    bool drops(int layer) const { return digit_count && dropout[layer]; }
    bool cropped() const { return height != image_height || width != image_width; }
};

struct Key {
    uint32_t seed, attempt, image;
};

// The stages of a step, and what each has cost: ticks of the time-stamp counter, and multiply-adds
// on numbers that are not known to be zero.
enum Stage {
    noise_stage,
    first_stage,
    forward_stage,
    last_stage,
    weight_gradient_stage,
    input_gradient_stage,
    first_gradient_stage,
    adam_stage,
    stage_count
};
struct Cost {
    int64_t ticks, multiply_adds;
};

// One image's fit. Weights and moments are in PyTorch's order, [c_out, c_in, 3, 3] then [c_out].
struct Fit {
    Key key;
    const float* image;  // [channels, height, width]
    float* weights;      // [P]
    float* moments[3];   // [P] each
    float* losses;       // [steps]
    int64_t first_step, steps, start;
    const double* rates;   // [steps]
    const int* stop;       // fitting ends early once this is not zero
    int64_t* done;         // counts steps, over all images
    Cost* costs;           // [stage_count], added to; or null
};

// E_z h(z; w) of one image from `samples` draws of a stream, or without noise.
struct Expectation {
    Key key;
    const float* image;
    const float* weights;
    float* result;  // [channels, height, width]
    uint32_t step, stream;
    int samples;
    bool noise, dropout;
    const int* stop;
};

// The kernels of one instruction set.
struct Kernels {
    const char* name;
    size_t (*workspace_bytes)(const Plan&);
    // `workspace` holds that many bytes, zeroed, aligned to 64 KiB; it may be used again.
    void (*fit)(const Plan&, const Fit&, void* workspace);
    void (*expect)(const Plan&, const Expectation&, void* workspace);
    // The streams by themselves, for tests; `normals` has room for `count` rounded up to four.
    void (*words)(Key, uint32_t step, uint32_t stream, int blocks, uint32_t* words);
    void (*normals)(Key, uint32_t step, uint32_t stream, int count, float* normals);
};

const Kernels& plain_kernels();
#if defined(RIDE_X86)
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
#endif

}  // namespace ride
