#include "workers.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ride {
namespace {

// A denormal operand costs some hundred cycles, and Adam's moments of dead units become denormal.
// Only the threads that are started here change their mode; the caller's stays as it is.
void flush_denormals() {
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);  // flush to zero, denormals are zero
#elif defined(__aarch64__)
    uint64_t mode;
    asm volatile("mrs %0, fpcr" : "=r"(mode));
    asm volatile("msr fpcr, %0" : : "r"(mode | uint64_t(1) << 24));
#endif
}

class Workspace {
public:
    explicit Workspace(size_t bytes) {
        constexpr size_t huge = size_t(1) << 21;
        const size_t unit = bytes >= huge ? huge : huge / 32;
        bytes = (bytes + unit - 1) / unit * unit;
        block_ = std::aligned_alloc(unit, bytes);
        if (!block_) throw std::bad_alloc();
#if defined(__linux__)
        if (unit == huge) madvise(block_, bytes, MADV_HUGEPAGE);
#endif
        std::memset(block_, 0, bytes);
    }
    ~Workspace() { std::free(block_); }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    void* get() const { return block_; }

private:
    void* block_;
};

}  // namespace

void run_on_threads(int count, int threads, size_t workspace_bytes, int& stop,
                    const std::function<void(int, void*)>& task,
                    const std::function<void()>& watch) {
    std::atomic<int> next{0};
    std::mutex mutex;
    std::condition_variable ended;
    int running = std::min(count, threads);
    std::exception_ptr error;

    auto work = [&] {
        std::exception_ptr mine;
        try {
            flush_denormals();
            Workspace workspace(workspace_bytes);
            for (int i = next++; i < count; i = next++) {
                if (__atomic_load_n(&stop, __ATOMIC_RELAXED)) break;
                task(i, workspace.get());
            }
        } catch (...) {
            mine = std::current_exception();
        }
        std::lock_guard<std::mutex> lock(mutex);
        if (mine) {
            error = mine;
            __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
        }
        running--;
        ended.notify_one();
    };

    std::vector<std::thread> workers;
    const int wanted = running;
    workers.reserve(size_t(wanted));
    try {
        while (int(workers.size()) < wanted) workers.emplace_back(work);
    } catch (const std::system_error&) {
        // As many threads as there may be; with none, there is nothing to wait for.
        if (workers.empty()) throw;
        std::lock_guard<std::mutex> lock(mutex);
        running -= wanted - int(workers.size());
    }
    std::unique_lock<std::mutex> lock(mutex);
    while (!ended.wait_for(lock, std::chrono::milliseconds(50), [&] { return running == 0; })) {
        if (error) continue;
        lock.unlock();
        try {
            watch();
            lock.lock();
        } catch (...) {
            lock.lock();
            error = std::current_exception();
            __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
        }
    }
    lock.unlock();
    for (std::thread& worker : workers) worker.join();
    if (error) std::rethrow_exception(error);
}

}  // namespace ride
