// Images spread over threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "plan.h"

namespace ride {

// Runs task(i, workspace) for i from 0 to count - 1 on that many threads, each with a workspace of
// its own and with denormal numbers flushed to zero. Meanwhile calls `watch` on the calling thread,
// a few times a second. Where `watch` throws, `stop` is set, the threads end, and it is thrown on.
void run_on_threads(int count, int threads, size_t workspace_bytes, int& stop,
                    const std::function<void(int, void*)>& task,
                    const std::function<void()>& watch);

}  // namespace ride
