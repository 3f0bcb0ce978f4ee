// One image's fit, step after step.
#pragma once

#include "convolution.h"
#include "random.h"
#include "weight_gradient.h"
#include "workspace.h"

namespace ride::RIDE_ISA {

// Calls f with the number of vectors that a pass over these channels has.
template <class F>
RIDE_INLINE void with_vectors(int channels, F&& f) {
    constexpr std::integral_constant<int, 1> one;
    constexpr std::integral_constant<int, 2> two;
    if constexpr (lanes == 16) {
        if (vectors_of_pass(channels) == 2)
            f(two);
        else
            f(one);
    } else if constexpr (lanes == 8) {
        f(one);
    } else {
        f(two);
    }
}

// Calls f with a last layer's taps as a constant.
template <class F>
RIDE_INLINE void with_taps(int taps, F&& f) {
    if (taps == 1)
        f(std::integral_constant<int, 1>{});
    else
        f(std::integral_constant<int, 9>{});
}

class Fitting {
public:
    Fitting(const Plan& plan, Key key, const float* source, void* block)
        : plan(plan), key(key), source(source), space(plan, block), grid(space.grid) {}

    void fit(const Fit& job) {
        float* own[] = {space.weights, space.first, space.second, space.largest};
        float* given[] = {job.weights, job.moments[0], job.moments[1], job.moments[2]};
        for (int i = 0; i < 4; i++) {
            std::memset(own[i], 0, space.all.size * 4);
            for_parameters(space.all, [&](size_t theirs, size_t ours) {
                own[i][ours] = given[i][theirs];
            });
        }
        if (!plan.cropped()) std::memcpy(space.image, source, image_bytes());
        if (!plan.noisy_input) fixed_inputs();
        for (int64_t i = 0; i < job.steps; i++) {
            if (__atomic_load_n(job.stop, __ATOMIC_RELAXED)) return;
            const int64_t global = job.first_step + i;
            const float scale = gradient_of(uint32_t(global), job.losses[i]);
            timed(adam_stage, 0, [&] {
                adam(plan, space.all.size, job.rates[i], global + 1 - job.start, scale,
                     space.gradient, space.weights, space.first, space.second, space.largest);
            });
            __atomic_fetch_add(job.done, 1, __ATOMIC_RELAXED);
        }
        for (int i = 0; i < 4; i++)
            for_parameters(space.all, [&](size_t theirs, size_t ours) {
                given[i][theirs] = own[i][ours];
            });
        if (job.costs)
            for (int stage = 0; stage < stage_count; stage++) {
                job.costs[stage].ticks += costs[stage].ticks;
                job.costs[stage].multiply_adds += costs[stage].multiply_adds;
            }
    }

    void expect(const Expectation& job) {
        for_parameters(space.all, [&](size_t theirs, size_t ours) {
            space.weights[ours] = job.weights[theirs];
        });
        std::memcpy(space.image, source, image_bytes());
        if (!plan.noisy_input) fixed_inputs();
        Kept& kept = space.kept;
        kept.count = grid.pixels();
        for (int pixel = 0; pixel < kept.count; pixel++) kept.list[pixel] = pixel;
        find_corners(grid, kept);
        std::memset(job.result, 0, image_bytes());
        step = job.step;
        for (sample = 0; sample < job.samples; sample++) {
            if (__atomic_load_n(job.stop, __ATOMIC_RELAXED)) return;
            if (plan.noisy_input) {
                if (job.noise)
                    noisy_inputs(job.stream);
                else
                    clean_inputs();
            }
            forward(job.dropout);
            with_taps(last().taps, [&](auto taps) {
                last_forward<taps>(plan, last(), grid, space.hidden[plan.hidden_layers - 1],
                                   space.weights, space.inputs, kept);
            });
            for (int c = 0; c < plan.image_channels; c++)
                for (int pixel = 0; pixel < kept.count; pixel++)
                    job.result[c * kept.count + pixel] += kept.outputs[c * kept.stride + pixel];
        }
        for (int i = 0; i < plan.image_channels * kept.count; i++)
            job.result[i] /= float(job.samples);
    }

private:
    const Plan& plan;
    Key key;
    const float* source;
    Workspace space;
    const Grid& grid;
    uint32_t step = 0;
    int sample = 0;
    int64_t nonzero[most_layers] = {};
    Cost costs[stage_count] = {};

    template <class Work>
    RIDE_INLINE void timed(Stage stage, int64_t multiply_adds, Work&& work) {
        const int64_t began = clock_ticks();
        work();
        costs[stage].ticks += clock_ticks() - began;
        costs[stage].multiply_adds += multiply_adds;
    }

    size_t image_bytes() const { return size_t(plan.image_channels) * grid.pixels() * 4; }
    const Layer& last() const { return space.all.layers[plan.hidden_layers]; }
    Stream stream(uint32_t number) const { return {key, step, number + 256 * uint32_t(sample)}; }

    // The summed gradient of a step; what makes the loss's of it is returned.
    float gradient_of(uint32_t global, float& loss) {
        step = global;
        sample = 0;
        std::memset(space.gradient, 0, space.all.size * 4);
        if (plan.cropped()) crop();
        double squares = 0;
        int64_t count = 0;
        for (; sample < plan.batch; sample++) {
            timed(noise_stage, 0, [&] {
                if (plan.noisy_input) noisy_inputs(stream_input);
                targets();
            });
            forward(true);
            squares += backward();
            count += space.kept.count;
        }
        if (plan.norm_loss) {
            loss = float(std::sqrt(squares));
            return 1 / loss;
        }
        const double terms = double(count) * plan.image_channels;
        loss = float(squares / terms);
        return float(2 / terms);
    }

    void crop() {
        Words words[4];
        stream(stream_crop).draw(Words{}, words);
        const uint64_t rooms[] = {uint64_t(plan.image_height - plan.height + 1),
                                  uint64_t(plan.image_width - plan.width + 1)};
        const size_t top = words[0][0] * rooms[0] >> 32, left = words[1][0] * rooms[1] >> 32;
        for (int c = 0; c < plan.image_channels; c++)
            for (int y = 0; y < plan.height; y++) {
                const size_t row = (size_t(c) * plan.image_height + top + y) * plan.image_width;
                std::memcpy(space.image + (size_t(c) * plan.height + y) * plan.width,
                            source + row + left, size_t(plan.width) * 4);
            }
    }

    void fixed_inputs() {
        draw_uniforms({key, 0, stream_fixed}, plan.image_channels * grid.pixels(), space.noise);
        for_inputs([&](int c, size_t pixel) RIDE_LAMBDA {
            return space.noise[size_t(c) * grid.pixels() + pixel];
        });
    }

    void noisy_inputs(uint32_t number) {
        draw_normals(stream(number), plan.image_channels * grid.pixels(), space.noise);
        for_inputs([&](int c, size_t pixel) RIDE_LAMBDA {
            const size_t i = size_t(c) * grid.pixels() + pixel;
            return space.image[i] + plan.input_sigma[c] * space.noise[i];
        });
    }

    void clean_inputs() {
        for_inputs([&](int c, size_t pixel) RIDE_LAMBDA {
            return space.image[size_t(c) * grid.pixels() + pixel];
        });
    }

    template <class Value>
    void for_inputs(Value&& value) {
        const int colours = plan.image_channels;
        for (int c = 0; c < colours; c++)
            for (int y = 0; y < grid.height; y++) {
                float* row = space.inputs + grid.at(y, 0) * colours + c;
                for (int x = 0; x < grid.width; x++)
                    row[x * colours] = value(c, size_t(y) * grid.width + x);
            }
    }

    void targets() {
        Kept& kept = space.kept;
        kept.count =
            draw_kept_pixels(stream(stream_mask), grid.pixels(), plan.mask_bound, kept.list);
        find_corners(grid, kept);
        if (plan.noisy_target)
            draw_target(stream(stream_target), kept.list, kept.count, plan.image_channels,
                        grid.pixels(), kept.targets, kept.stride);
        for (int c = 0; c < plan.image_channels; c++) {
            const float* image = space.image + size_t(c) * grid.pixels();
            float* targets = kept.targets + size_t(c) * kept.stride;
            for (int k = 0; k < kept.count; k++) {
                const float x = image[kept.list[k]];
                if (plan.recorrupted != 0) {
                    const size_t at = centre(grid, kept.corners[k]) * plan.image_channels + c;
                    targets[k] = x - (space.inputs[at] - x) * plan.recorrupted;
                } else {
                    targets[k] = x + (plan.noisy_target ? plan.target_sigma[c] * targets[k] : 0.0f);
                }
            }
        }
    }

    void forward(bool with_dropout) {
        for (int l = 0; l < plan.hidden_layers; l++) {
            const Map& out = space.hidden[l];
            if (with_dropout && plan.digit_count && plan.dropout[l]) {
                const size_t plane = size_t(grid.pixels() + grid.pixels() % 2);
                timed(noise_stage, 0, [&] {
                    draw_kept_units(stream(stream_dropout + uint32_t(l) + 1), plan,
                                    int(plane) * out.channels / 16, space.units);
                });
                activate<true>(l, space.units, plane, plan.dropout_scale);
            } else {
                activate<false>(l, nullptr, 0, 1.0f);
            }
            nonzero[l] = count_bits(grid, out);
        }
    }

    template <bool dropout>
    void activate(int l, const uint16_t* units, size_t plane, float scale) {
        const Map& out = space.hidden[l];
        if (plan.slope != 0)
            convolve_layer(l, Activate<dropout, true>{out, units, plane, scale, plan.slope});
        else
            convolve_layer(l, Activate<dropout, false>{out, units, plane, scale, 0});
    }

    template <class Finish>
    void convolve_layer(int l, const Finish& finish) {
        const Layer& layer = space.all.layers[l];
        const float* bias = space.weights + layer.bias;
        with_vectors(layer.out, [&](auto vectors) {
            if (l == 0)
                timed(first_stage, taps(grid.pixels() * layer.in, layer.out), [&] {
                    convolve_image<vectors>(grid, space.inputs, layer.in,
                                            space.weights + layer.weights, bias, layer.out,
                                            finish);
                });
            else
                timed(forward_stage, taps(nonzero[l - 1], layer.out), [&] {
                    stage_forward(layer);
                    convolve<vectors>(grid, space.hidden[l - 1], space.staged, bias, layer.out,
                                      space.pending, finish);
                });
        });
    }

    // The weights of a hidden layer to where the convolution reads them.
    void stage_forward(const Layer& layer) {
        const Packing staged = with_a_zero(layer.forward());
        repack<false>(layer.backward(), space.weights + layer.weights, staged, space.staged);
        clear_zero(staged, space.staged);
    }
    void stage_backward(const Layer& layer) {
        const Packing staged = with_a_zero(layer.backward());
        const float* from = space.weights + layer.weights;
        for (int channel = 0; channel < layer.in; channel += staged.width())
            std::memcpy(space.staged + staged.at(channel, 0, 0),
                        from + layer.backward().at(channel, 0, 0),
                        size_t(9) * layer.out * staged.width() * 4);
        clear_zero(staged, space.staged);
    }

    static int64_t taps(int64_t values, int channels) { return 9 * values * channels; }

    bool drops(int l) const { return plan.digit_count && plan.dropout[l]; }

    // From outputs and targets to `gradient`; returns the sum of squares.
    double backward() {
        const int top = plan.hidden_layers - 1;
        Map above{space.slopes[0].values, space.last_mask, plan.widths[top]};
        double squares = 0;
        const int64_t products =
            int64_t(last().taps) * space.kept.count * above.channels * last().out;
        timed(last_stage, 3 * products, [&] {
            with_taps(last().taps, [&](auto taps) {
                last_forward<taps>(plan, last(), grid, space.hidden[top], space.weights,
                                   space.inputs, space.kept);
                squares = squares_and_slopes(plan, space.kept);
                last_weight_gradient<taps>(last(), grid, space.hidden[top], space.kept,
                                           space.gradient);
                last_input_gradient<taps>(last(), grid, space.hidden[top],
                                          drops(top) ? plan.dropout_scale : 1.0f, plan.slope,
                                          space.weights, space.kept,
                                          space.gradient + space.all.layers[top].bias, above);
            });
        });
        int64_t above_nonzero = count_bits(grid, above);
        for (int l = top; l > 0; l--) {
            const Layer &layer = space.all.layers[l], &lower = space.all.layers[l - 1];
            const Map& below = space.hidden[l - 1];
            const bool walk_above = above_nonzero <= nonzero[l - 1];
            timed(weight_gradient_stage,
                  walk_above ? taps(above_nonzero, layer.in) : taps(nonzero[l - 1], layer.out),
                  [&] { hidden_weight_gradient(layer, below, above, walk_above); });
            const Map out{space.slopes[(top - l + 1) % 2].values, below.mask, below.channels};
            clear_border(grid, out);
            const float scale = drops(l - 1) ? plan.dropout_scale : 1.0f;
            timed(input_gradient_stage, taps(above_nonzero, layer.in), [&] {
                stage_backward(layer);
                float* bias = space.gradient + lower.bias;
                if (plan.slope != 0)
                    convolve_back(layer, above, Backpropagate<true>{out, below.values, scale,
                                                                    plan.slope, bias});
                else
                    convolve_back(layer, above,
                                  Backpropagate<false>{out, below.values, scale, 0, bias});
            });
            above = out;
            above_nonzero = nonzero[l - 1];
        }
        const Layer& bottom = space.all.layers[0];
        timed(first_gradient_stage, taps(grid.pixels() * bottom.in, bottom.out), [&] {
            with_vectors(bottom.out, [&](auto vectors) {
                first_weight_gradient<vectors>(grid, above, space.inputs, bottom.in,
                                               space.gradient + bottom.weights);
            });
        });
        return squares;
    }

    template <class Finish>
    void convolve_back(const Layer& layer, const Map& above, const Finish& finish) {
        with_vectors(layer.in, [&](auto vectors) {
            convolve<vectors>(grid, above, space.staged, nullptr, layer.in, space.pending, finish);
        });
    }

    // `walk_above`: whether the gradient above has fewer nonzeros than the activation below.
    void hidden_weight_gradient(const Layer& layer, const Map& below, const Map& above,
                                bool walk_above) {
        float* gradient = space.gradient + layer.weights;
        if (walk_above) {
            with_vectors(layer.in, [&](auto vectors) {
                sum_weight_gradient<vectors>(grid, below, above, gradient, space.words);
            });
        } else {
            std::memset(space.repacked, 0, size_t(9) * layer.in * layer.out * 4);
            with_vectors(layer.out, [&](auto vectors) {
                sum_weight_gradient<vectors>(grid, above, below, space.repacked, space.words);
            });
            repack<true>(layer.forward(), space.repacked, layer.backward(), gradient);
        }
    }
};

}  // namespace ride::RIDE_ISA
