// What the stages of a step cost.
#pragma once

#include "plan.h"
#include "simd.h"

namespace ride::RIDE_ISA {

struct Costs {
    Cost of[stage_count] = {};

    template <class Work>
    RIDE_INLINE void timed(Stage stage, Work&& work) {
        const int64_t began = clock_ticks();
        work();
        of[stage].ticks += clock_ticks() - began;
    }
    // Of a 3×3 kernel at each of these values.
    void count(Stage stage, int64_t values, int channels) {
        of[stage].multiply_adds += 9 * values * channels;
    }
};

}  // namespace ride::RIDE_ISA
