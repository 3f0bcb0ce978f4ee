// Which instruction set's kernels run.
#pragma once

#include <string>
#include <vector>

#include "plan.h"

namespace ride {

// Those that this processor can run, the fastest first.
const std::vector<const Kernels*>& available_kernels();

// The fastest, or the one that the environment variable RIDEFENSE_ISA names.
// Throws std::invalid_argument where it names one that cannot run here.
const Kernels& chosen_kernels();

}  // namespace ride
