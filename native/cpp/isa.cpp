#include "isa.h"

#include <cstdlib>
#include <stdexcept>

namespace ride {

const std::vector<const Kernels*>& available_kernels() {
    static const std::vector<const Kernels*> available = [] {
        std::vector<const Kernels*> found;
#if defined(RIDE_X86)
        __builtin_cpu_init();
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                          __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
        if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            found.push_back(&avx512_kernels());
        if (avx2) found.push_back(&avx2_kernels());
#endif
        found.push_back(&plain_kernels());
        return found;
    }();
    return available;
}

const Kernels& chosen_kernels() {
    const auto& available = available_kernels();
    const char* wanted = std::getenv("RIDEFENSE_ISA");
    if (!wanted || !*wanted) return *available.front();
    std::string names;
    for (const Kernels* kernels : available) {
        if (kernels->name == std::string(wanted)) return *kernels;
        names += names.empty() ? kernels->name : std::string(", ") + kernels->name;
    }
    throw std::invalid_argument("RIDEFENSE_ISA is '" + std::string(wanted) +
                                "'; this processor has " + names);
}

}  // namespace ride
