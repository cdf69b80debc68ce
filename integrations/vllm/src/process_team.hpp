// integrations/vllm/src/process_team.hpp -- the tasks of a call on the threads that the process already has.
// SPDX-License-Identifier: Apache-2.0
//
// torch brings an OpenMP library, vLLM binds its threads to cores (VLLM_CPU_OMP_THREADS_BIND), and both run their own
// kernels on them. A second library beside it would have threads of its own, which then fight for the same cores. So
// nothing of OpenMP is linked here: whoever imports the module hands over where torch's library begins a parallel
// region. The entry point's name and arguments are those of GNU's libgomp; LLVM's and Intel's libraries have it too.
#pragma once

#include <atomic>
#include <cstddef>
#include <mxfp4/executor.hpp>

namespace mxfp4::vllm {

/// Two functions of an OpenMP library.
struct openmp_library {
  /// GOMP_parallel: calls body(data) on each thread of a team of the usual size (threads 0) and waits for all.
  using parallel_type = void (*)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
  parallel_type parallel = nullptr;  ///< null: everything runs on the caller's thread
  int (*max_threads)() = nullptr;    ///< omp_get_max_threads
};

/// An executor on the caller's OpenMP team. Threads take the next task as they come, so a slow one holds up nothing.
/// The team has always its full size: libgomp ends threads when it is asked for fewer.
class process_team {
 public:
  process_team() noexcept = default;
  explicit process_team(const openmp_library& library) noexcept : library_(library) {}

  /// How many threads a call has.
  [[nodiscard]] int threads() const noexcept {
    return library_.parallel == nullptr || library_.max_threads == nullptr ? 1 : library_.max_threads();
  }

  /// Calls body(0) ... body(tasks - 1), and returns when all have returned. Nothing that the kernels run throws.
  void run(std::size_t tasks, task_ref body) const {
    if (tasks < 2 || threads() < 2) {
      for (std::size_t i = 0; i < tasks; ++i) body(i);
      return;
    }
    shared_tasks shared{tasks, body};
    library_.parallel(&take_tasks, &shared, 0, 0);
  }

 private:
  struct shared_tasks {
    std::size_t count;
    task_ref body;
    std::atomic<std::size_t> next{0};
  };

  static void take_tasks(void* data) noexcept {
    auto& tasks = *static_cast<shared_tasks*>(data);
    for (std::size_t i = tasks.next.fetch_add(1, std::memory_order_relaxed); i < tasks.count;
         i = tasks.next.fetch_add(1, std::memory_order_relaxed))
      tasks.body(i);
  }

  openmp_library library_;
};

}  // namespace mxfp4::vllm
