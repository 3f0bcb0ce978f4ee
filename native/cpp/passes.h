// The forward and the backward pass of one input.
#pragma once

#include "convolution.h"
#include "costs.h"
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

// Layers take turns at a band of rows (`Workspace::band`), forward from the first to the last, and
// backward from the last to the first. Of a large image a band is a few rows, so that a layer finds
// in the caches what the layer before it has just written. A layer lags one row behind the layer
// before it, whose next row its 3×3 kernels need.
class Passes {
public:
    Passes(const Plan& plan, Workspace& space, Costs& costs)
        : plan(plan), space(space), grid(space.grid), costs(costs) {}

    // From `inputs` to `hidden`. `dropout`: the stream of the first convolution's, or null.
    void forward(const Stream* dropout) {
        const int layers = plan.hidden_layers;
        for (int l = 0; l < layers; l++)
            if (dropout && plan.drops(l))
                costs.timed(noise_stage, [&] {
                    const Stream own{dropout->key, dropout->step, dropout->number + uint32_t(l)};
                    const int groups = space.hidden[l].channels / 16;
                    draw_kept_units(own, plan, int(unit_plane()) * groups, space.units[l]);
                    if (l == layers - 2)
                        with_taps(last().taps, [&](auto taps) {
                            drop_unseen<taps>(grid, space.kept, space.near, groups, unit_plane(),
                                              space.units[l]);
                        });
                });
        sweep(layers, [&](int l, Rows rows) {
            return dropout && plan.drops(l) ? activate<true>(l, rows) : activate<false>(l, rows);
        });
        for (int l = 0; l < layers; l++) {
            const Layer& layer = space.all.layers[l];
            nonzero[l] = count_bits(grid, space.hidden[l]);
            if (l == 0)
                costs.count(first_stage, int64_t(grid.pixels()) * layer.in, layer.out);
            else
                costs.count(forward_stage, nonzero[l - 1], layer.out);
        }
    }

    // From `hidden` to the outputs at the pixels kept.
    void output() {
        with_taps(last().taps, [&](auto taps) {
            last_forward<taps>(plan, last(), grid, space.hidden[plan.hidden_layers - 1],
                               space.weights, space.inputs, space.kept);
        });
    }

    // From `hidden` and the targets to `gradient`; returns the sum of squares.
    double backward() {
        const double squares = loss();
        const int layers = plan.hidden_layers;
        int64_t slopes_nonzero = count_bits(grid, space.slopes[layers - 1]);
        for (int l = layers - 1; l > 0; l--) {
            const Layer& layer = space.all.layers[l];
            walks_slopes[l] = slopes_nonzero <= nonzero[l - 1];
            costs.count(input_gradient_stage, slopes_nonzero, layer.in);
            costs.count(weight_gradient_stage, walks_slopes[l] ? slopes_nonzero : nonzero[l - 1],
                        walks_slopes[l] ? layer.in : layer.out);
            slopes_nonzero = nonzero[l - 1];
        }
        costs.count(first_gradient_stage, int64_t(grid.pixels()) * plan.image_channels,
                    plan.widths[0]);
        sweep(layers, [&](int turn, Rows rows) {
            const int l = layers - 1 - turn;
            if (l == 0) return first_gradient(rows);
            rows.end = plan.slope != 0 ? input_gradient<true>(l, rows)
                                       : input_gradient<false>(l, rows);
            weight_gradient_of(l, rows);
            return rows.end;
        });
        return squares;
    }

private:
    const Plan& plan;
    Workspace& space;
    const Grid& grid;
    Costs& costs;
    int64_t nonzero[most_layers] = {};
    // Whether the weight gradient walks through the gradient above it, or the outputs below.
    bool walks_slopes[most_layers] = {};

    const Layer& last() const { return space.all.layers[plan.hidden_layers]; }
    size_t unit_plane() const { return size_t(grid.pixels() + grid.pixels() % 2); }
    float scale_of(int l) const { return plan.drops(l) ? plan.dropout_scale : 1.0f; }

    // Calls take(turn, rows) until the last turn has had all rows. It returns the end of the rows
    // that it has taken: all of them, or one fewer.
    template <class Take>
    void sweep(int turns, Take&& take) {
        int taken[most_layers] = {};
        while (taken[turns - 1] < grid.height) {
            int ready = grid.height;
            for (int turn = 0; turn < turns; turn++) {
                int& begin = taken[turn];
                const int end = ready < begin + space.band ? ready : begin + space.band;
                if (end > begin) begin = take(turn, Rows{begin, end});
                ready = finished(begin);
            }
        }
    }
    // Rows of a convolution's output that are finished once the rows before `end` were added.
    int finished(int end) const { return end == grid.height || end == 0 ? end : end - 1; }

    template <bool dropout>
    int activate(int l, Rows rows) {
        const Map& out = space.hidden[l];
        const float scale = dropout ? plan.dropout_scale : 1.0f;
        if (plan.slope != 0)
            return convolve_layer(
                l, rows,
                Activate<dropout, true>{out, space.units[l], unit_plane(), scale, plan.slope});
        return convolve_layer(l, rows,
                              Activate<dropout, false>{out, space.units[l], unit_plane(), scale, 0});
    }

    template <class Finish>
    int convolve_layer(int l, Rows rows, const Finish& finish) {
        const Layer& layer = space.all.layers[l];
        const float* bias = space.weights + layer.bias;
        const Staging& staging = space.staging[l];
        with_vectors(layer.out, [&](auto vectors) {
            if (l == 0)
                costs.timed(first_stage, [&] {
                    convolve_image<vectors>(grid, space.inputs, layer.in, rows,
                                            space.weights + layer.weights, bias, layer.out,
                                            finish);
                });
            else
                costs.timed(forward_stage, [&] {
                    if (rows.begin == 0) stage_forward(layer, staging.weights);
                    rows.end = convolve<vectors>(grid, space.hidden[l - 1], rows, staging.weights,
                                                 bias, layer.out, staging.pending, finish);
                });
        });
        return rows.end;
    }

    // The weights of a hidden layer to where the convolution reads them.
    void stage_forward(const Layer& layer, float* to) {
        const Packing staged = with_a_zero(layer.forward());
        repack<false>(layer.backward(), space.weights + layer.weights, staged, to);
        clear_zero(staged, to);
    }
    void stage_backward(const Layer& layer, float* to) {
        const Packing staged = with_a_zero(layer.backward());
        const float* from = space.weights + layer.weights;
        for (int channel = 0; channel < layer.in; channel += staged.width())
            std::memcpy(to + staged.at(channel, 0, 0), from + layer.backward().at(channel, 0, 0),
                        size_t(9) * layer.out * staged.width() * 4);
        clear_zero(staged, to);
    }

    // The last layer: the sum of squares, its gradients, and those of the last hidden layer's sums.
    double loss() {
        const int top = plan.hidden_layers - 1;
        const Map& in = space.hidden[top];
        double squares = 0;
        costs.of[last_stage].multiply_adds +=
            int64_t(3) * last().taps * space.kept.count * in.channels * last().out;
        costs.timed(last_stage, [&] {
            output();
            squares = squares_and_slopes(plan, space.kept);
            with_taps(last().taps, [&](auto taps) {
                last_weight_gradient<taps>(last(), grid, in, space.kept, space.gradient);
                last_input_gradient<taps>(last(), grid, in, scale_of(top), plan.slope,
                                          space.weights, space.kept,
                                          space.gradient + space.all.layers[top].bias,
                                          space.slopes[top]);
            });
        });
        return squares;
    }

    // From the gradient with respect to the sums of layer l to that of the layer below.
    template <bool leaky>
    int input_gradient(int l, Rows rows) {
        const Layer &layer = space.all.layers[l], &lower = space.all.layers[l - 1];
        const Staging& staging = space.staging[l];
        const Backpropagate<leaky> finish{space.slopes[l - 1], space.hidden[l - 1],
                                          scale_of(l - 1), plan.slope,
                                          space.gradient + lower.bias};
        costs.timed(input_gradient_stage, [&] {
            if (rows.begin == 0) stage_backward(layer, staging.weights);
            with_vectors(layer.in, [&](auto vectors) {
                rows.end = convolve<vectors>(grid, space.slopes[l], rows, staging.weights, nullptr,
                                             layer.in, staging.pending, finish);
            });
            // The weight gradient may look beyond the rows' ends.
            if (space.banded)
                repeat_rows(grid, finish.out, {finished(rows.begin), finished(rows.end)});
            else
                clear_border(grid, finish.out);
        });
        return rows.end;
    }

    void weight_gradient_of(int l, Rows rows) {
        const Layer& layer = space.all.layers[l];
        const Map &below = space.hidden[l - 1], &above = space.slopes[l];
        const bool begins = rows.begin == 0, ends = rows.end == grid.height;
        // Whole tiles, but for the last; where the gradient is looked at around the outputs, those
        // whose next row is there too.
        if (!walks_slopes[l]) rows = {finished(rows.begin), finished(rows.end)};
        rows.begin -= rows.begin % tile_rows;
        if (!ends) rows.end -= rows.end % tile_rows;
        float* gradient = space.gradient + layer.weights;
        float* repacked = space.repacked + layer.weights;
        costs.timed(weight_gradient_stage, [&] {
            if (walks_slopes[l]) {
                with_vectors(layer.in, [&](auto vectors) {
                    sum_weight_gradient<vectors>(grid, below, above, rows, gradient, space.words);
                });
                return;
            }
            if (begins) std::memset(repacked, 0, size_t(9) * layer.in * layer.out * 4);
            with_vectors(layer.out, [&](auto vectors) {
                sum_weight_gradient<vectors>(grid, above, below, rows, repacked, space.words);
            });
            if (ends) repack<true>(layer.forward(), repacked, layer.backward(), gradient);
        });
    }

    int first_gradient(Rows rows) {
        const Layer& layer = space.all.layers[0];
        costs.timed(first_gradient_stage, [&] {
            with_vectors(layer.out, [&](auto vectors) {
                first_weight_gradient<vectors>(grid, space.slopes[0], space.inputs, layer.in, rows,
                                               space.gradient + layer.weights);
            });
        });
        return rows.end;
    }
};

}  // namespace ride::RIDE_ISA
