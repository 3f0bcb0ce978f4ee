// One image's fit, step after step.
#pragma once

#include "passes.h"

namespace ride::RIDE_ISA {

class Fitting {
public:
    Fitting(const Plan& plan, Key key, const float* source, void* block)
        : plan(plan), key(key), source(source), space(plan, block), grid(space.grid),
          passes(plan, space, costs) {}

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
            costs.timed(adam_stage, [&] {
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
                job.costs[stage].ticks += costs.of[stage].ticks;
                job.costs[stage].multiply_adds += costs.of[stage].multiply_adds;
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
            passes.output();
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
    Costs costs;
    Passes passes;

    size_t image_bytes() const { return size_t(plan.image_channels) * grid.pixels() * 4; }
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
            costs.timed(noise_stage, [&] {
                if (plan.noisy_input) noisy_inputs(stream_input);
                targets();
            });
            forward(true);
            squares += passes.backward();
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
        const Stream dropout = stream(stream_dropout + 1);
        passes.forward(with_dropout ? &dropout : nullptr);
    }
};

}  // namespace ride::RIDE_ISA
