// Compiled once for every instruction set, with other flags and another RIDE_ISA.
#include "fitting.h"

namespace ride {
namespace RIDE_ISA {

static size_t workspace_bytes(const Plan& plan) { return Workspace(plan, nullptr).used; }

static void fit(const Plan& plan, const Fit& job, void* workspace) {
    Fitting(plan, job.key, job.image, workspace).fit(job);
}

static void expect(const Plan& plan, const Expectation& job, void* workspace) {
    Fitting(plan, job.key, job.image, workspace).expect(job);
}

static void words(Key key, uint32_t step, uint32_t number, int blocks, uint32_t* result) {
    for_blocks(Stream{key, step, number}, 0, blocks,
               [&](int first, int count, Words(&drawn)[4]) RIDE_LAMBDA {
                   for (int i = 0; i < count; i++)
                       for (int w = 0; w < 4; w++) result[4 * (first + i) + w] = drawn[w][i];
               });
}

static void normals(Key key, uint32_t step, uint32_t number, int count, float* result) {
    draw_normals(Stream{key, step, number}, count, result);
}

}  // namespace RIDE_ISA

#define RIDE_NAME_OF(name) #name
#define RIDE_NAME(name) RIDE_NAME_OF(name)
#define RIDE_KERNELS_OF(name) name##_kernels
#define RIDE_KERNELS(name) RIDE_KERNELS_OF(name)

const Kernels& RIDE_KERNELS(RIDE_ISA)() {
    using namespace RIDE_ISA;
    static const Kernels kernels{RIDE_NAME(RIDE_ISA), workspace_bytes, fit, expect, words, normals};
    return kernels;
}

}  // namespace ride
