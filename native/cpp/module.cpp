// The Python module: arrays in, arrays filled.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <stdexcept>

#include "isa.h"
#include "workers.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace ride {
namespace {

template <class T, int dimensions>
using Array = nb::ndarray<T, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;
using Progress = std::optional<std::function<void(int64_t, int64_t)>>;

// Whose random numbers: one seed, and an id and an attempt for each image.
struct Keys {
    uint32_t seed;
    std::vector<uint32_t> ids, attempts;

    Key operator[](size_t i) const { return {seed, attempts[i], ids[i]}; }
};

void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

Plan make_plan(std::pair<int, int> size, std::pair<int, int> image_size,
               const std::vector<int>& channels, const std::vector<int>& dropout_after,
               const std::vector<int>& keep_digits, const std::vector<float>& sigma,
               bool noisy_input, bool noisy_target, bool sigmoid, bool norm_loss, bool amsgrad,
               uint64_t mask_bound, int batch, double weight_decay, double recorruption,
               double slope, bool residual, int last_taps) {
    Plan plan{};
    const int hidden = int(channels.size()) - 2;
    require(hidden >= 1 && hidden <= most_layers, "1 to 64 hidden layers");
    require(channels.front() >= 1 && channels.front() <= most_image_channels &&
                channels.front() == channels.back() && sigma.size() == size_t(channels.front()),
            "1 to 16 image channels, a sigma each");
    require(last_taps == 1 || last_taps == 9, "a last kernel of 1 or 9 taps");
    require(!(residual && sigmoid), "no sigmoid after a residual output");
    require(size.first >= 1 && size.second >= 1 && size.first <= image_size.first &&
                size.second <= image_size.second,
            "a step sees at most the image");
    require(keep_digits.size() <= 8, "at most 8 binary digits");
    plan.height = size.first, plan.width = size.second;
    plan.image_height = image_size.first, plan.image_width = image_size.second;
    plan.image_channels = channels.front();
    plan.hidden_layers = hidden;
    for (int l = 0; l < hidden; l++) {
        require(channels[l + 1] > 0 && channels[l + 1] % 16 == 0, "widths are multiples of 16");
        plan.widths[l] = channels[l + 1];
    }
    double keep = 0;
    for (size_t place = 0; place < keep_digits.size(); place++) {
        plan.digits[place] = keep_digits[place];
        keep += keep_digits[place] * std::ldexp(1.0, -int(place) - 1);
    }
    plan.digit_count = int(keep_digits.size());
    plan.dropout_scale = plan.digit_count ? float(1 / keep) : 1.0f;
    for (int layer : dropout_after) {
        require(layer >= 1 && layer <= hidden, "dropout follows a hidden layer");
        plan.dropout[layer - 1] = true;
    }
    const bool recorrupted = recorruption != 0;
    for (size_t c = 0; c < sigma.size(); c++) {
        plan.input_sigma[c] = recorrupted ? float(recorruption * sigma[c]) : sigma[c];
        plan.target_sigma[c] = sigma[c];
    }
    plan.recorrupted = recorrupted ? float(1 / (recorruption * recorruption)) : 0.0f;
    plan.slope = float(slope), plan.residual = residual, plan.last_taps = last_taps;
    plan.noisy_input = noisy_input, plan.noisy_target = noisy_target;
    plan.sigmoid = sigmoid, plan.norm_loss = norm_loss, plan.amsgrad = amsgrad;
    plan.mask_bound = mask_bound, plan.batch = batch, plan.weight_decay = float(weight_decay);
    return plan;
}

size_t parameter_count(const Plan& plan) {
    size_t count = 0;
    int in = plan.image_channels;
    for (int l = 0; l <= plan.hidden_layers; l++) {
        const int out = l < plan.hidden_layers ? plan.widths[l] : plan.image_channels;
        count += size_t(l < plan.hidden_layers ? 9 : plan.last_taps) * in * out + out;
        in = out;
    }
    return count;
}

// Runs `task` for every image without the GIL, which `watch` takes for Ctrl-C and progress.
void run(size_t images, int threads, size_t bytes, int& stop, const int64_t& done, int64_t total,
         const Progress& progress, const std::function<void(int, void*)>& task) {
    nb::gil_scoped_release release;
    run_on_threads(int(images), threads, bytes, stop, task, [&] {
        nb::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals()) throw nb::python_error();
        if (progress) (*progress)(__atomic_load_n(&done, __ATOMIC_RELAXED), total);
    });
}

void fit(const Plan& plan, const Keys& keys, Array<const float, 4> images, Array<float, 2> weights,
         Array<float, 3> moments, Array<float, 2> losses, int64_t first_step,
         Array<const double, 1> rates, int64_t start, int threads, const Progress& progress,
         std::optional<Array<int64_t, 3>> costs) {
    const size_t count = images.shape(0), parameters = parameter_count(plan);
    const int64_t steps = int64_t(rates.shape(0));
    require(keys.ids.size() == count && keys.attempts.size() == count, "a key an image");
    require(images.shape(1) == size_t(plan.image_channels) &&
                images.shape(2) == size_t(plan.image_height) &&
                images.shape(3) == size_t(plan.image_width),
            "images of the plan's size");
    require(weights.shape(0) == count && weights.shape(1) == parameters, "weights [N, P]");
    require(moments.shape(0) == 3 && moments.shape(1) == count && moments.shape(2) == parameters,
            "moments [3, N, P]");
    require(losses.shape(0) == count && losses.shape(1) == size_t(steps), "losses [N, steps]");
    require(!costs || (costs->shape(0) == count && costs->shape(1) == stage_count &&
                       costs->shape(2) == 2),
            "costs [N, stages, 2]");
    const Kernels& kernels = chosen_kernels();
    int stop = 0;
    int64_t done = 0;
    const size_t pixels = images.shape(1) * images.shape(2) * images.shape(3);
    run(count, threads, kernels.workspace_bytes(plan), stop, done, int64_t(count) * steps, progress,
        [&](int i, void* workspace) {
            Fit job{};
            job.key = keys[size_t(i)];
            job.image = images.data() + size_t(i) * pixels;
            job.weights = weights.data() + size_t(i) * parameters;
            for (size_t m = 0; m < 3; m++)
                job.moments[m] = moments.data() + (m * count + size_t(i)) * parameters;
            job.losses = losses.data() + i * steps;
            job.first_step = first_step, job.steps = steps, job.start = start;
            job.rates = rates.data();
            job.stop = &stop, job.done = &done;
            if (costs)
                job.costs = reinterpret_cast<Cost*>(costs->data()) + size_t(i) * stage_count;
            kernels.fit(plan, job, workspace);
        });
}

void expect(const Plan& plan, const Keys& keys, Array<const float, 4> images,
            Array<const float, 2> weights, Array<float, 4> result, uint32_t step, uint32_t stream,
            int samples, bool dropout, int threads, bool noise) {
    const size_t count = images.shape(0), parameters = parameter_count(plan);
    require(keys.ids.size() == count && keys.attempts.size() == count, "a key an image");
    require(!plan.cropped() && images.shape(1) == size_t(plan.image_channels) &&
                images.shape(2) == size_t(plan.height) && images.shape(3) == size_t(plan.width),
            "images of the plan's size");
    require(weights.shape(0) == count && weights.shape(1) == parameters, "weights [N, P]");
    for (size_t d = 0; d < 4; d++)
        require(result.shape(d) == images.shape(d), "a result of the images' size");
    const Kernels& kernels = chosen_kernels();
    int stop = 0;
    const int64_t done = 0;
    const size_t pixels = images.shape(1) * images.shape(2) * images.shape(3);
    run(count, threads, kernels.workspace_bytes(plan), stop, done, 0, std::nullopt,
        [&](int i, void* workspace) {
            Expectation job{};
            job.key = keys[size_t(i)];
            job.image = images.data() + size_t(i) * pixels;
            job.weights = weights.data() + size_t(i) * parameters;
            job.result = result.data() + size_t(i) * pixels;
            job.step = step, job.stream = stream, job.samples = samples;
            job.noise = noise, job.dropout = dropout;
            job.stop = &stop;
            kernels.expect(plan, job, workspace);
        });
}

std::vector<std::string> isas() {
    std::vector<std::string> names;
    for (const Kernels* kernels : available_kernels()) names.push_back(kernels->name);
    return names;
}

}  // namespace
}  // namespace ride

NB_MODULE(_native, module) {
    using namespace ride;
    nb::class_<Plan>(module, "Plan")
        .def_prop_ro("parameters", &parameter_count)
        .def_prop_ro("workspace_bytes",
                     [](const Plan& plan) { return chosen_kernels().workspace_bytes(plan); });
    nb::class_<Keys>(module, "Keys")
        .def(nb::init<uint32_t, std::vector<uint32_t>, std::vector<uint32_t>>(), "seed"_a, "ids"_a,
             "attempts"_a);
    module.def("plan", &make_plan, nb::kw_only(), "size"_a, "image_size"_a, "channels"_a,
               "dropout_after"_a, "keep_digits"_a, "sigma"_a, "noisy_input"_a, "noisy_target"_a,
               "sigmoid"_a, "norm_loss"_a, "amsgrad"_a, "mask_bound"_a, "batch"_a,
               "weight_decay"_a, "recorruption"_a = 0.0, "slope"_a = 0.0, "residual"_a = false,
               "last_taps"_a = 9);
    // Arrays that are filled are taken as they are: what a converted copy gets would be lost.
    module.def("fit", &fit, "plan"_a, "keys"_a, "images"_a, "weights"_a.noconvert(),
               "moments"_a.noconvert(), "losses"_a.noconvert(), "first_step"_a, "rates"_a,
               "start"_a, "threads"_a, "progress"_a = nb::none(),
               "costs"_a.noconvert() = nb::none());
    module.def("expect", &expect, "plan"_a, "keys"_a, "images"_a, "weights"_a,
               "result"_a.noconvert(), "step"_a, "stream"_a, "samples"_a, "dropout"_a,
               "threads"_a, "noise"_a = true);
    module.attr("INTERFACE") = 2;  // counts changes of what is called
    module.attr("MOST_IMAGE_CHANNELS") = most_image_channels;
    module.attr("STAGES") = nb::make_tuple("noise", "first layer", "forward", "last layer",
                                           "weight gradient", "input gradient",
                                           "first weight gradient", "Adam");
    module.def("isas", &isas);
    module.def("isa", [] { return std::string(chosen_kernels().name); });
    module.def("draw_words", [](const Keys& keys, uint32_t step, uint32_t stream,
                                Array<uint32_t, 2> words) {
        require(keys.ids.size() == 1 && words.shape(1) == 4, "one key, words [blocks, 4]");
        chosen_kernels().words(keys[0], step, stream, int(words.shape(0)), words.data());
    }, "keys"_a, "step"_a, "stream"_a, "words"_a.noconvert());
    module.def("draw_normals", [](const Keys& keys, uint32_t step, uint32_t stream,
                                  Array<float, 1> normals) {
        require(keys.ids.size() == 1, "one key");
        // Whole blocks of four are drawn.
        std::vector<float> drawn((normals.shape(0) + 3) / 4 * 4);
        chosen_kernels().normals(keys[0], step, stream, int(normals.shape(0)), drawn.data());
        std::copy_n(drawn.begin(), normals.shape(0), normals.data());
    }, "keys"_a, "step"_a, "stream"_a, "normals"_a.noconvert());
}
