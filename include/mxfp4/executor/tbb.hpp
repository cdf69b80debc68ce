// mxfp4/executor/tbb.hpp -- tasks on oneTBB.
// SPDX-License-Identifier: Apache-2.0
//
// Includes oneTBB, which the consumer brings: target_link_libraries(engine PRIVATE mxfp4::mxfp4 TBB::tbb).
#pragma once

#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>

#include <cstddef>

#include "mxfp4/core/executor_ref.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// mxfp4::tbb_executor pool; gemm(w, x, y, {.executor = pool});
/// Keeps its arena; may be shared by threads. A task is a unit of work, large enough not to be grouped with others.
/// What a task throws is thrown again by run(), once, when all running tasks have ended; others may not have begun.
class tbb_executor {
 public:
  /// @param threads  how many work at the most, the caller included; 0: what oneTBB takes by itself.
  explicit tbb_executor(int threads = 0) : arena_(threads > 0 ? threads : oneapi::tbb::task_arena::automatic) {}

  /// Calls body(0) ... body(tasks - 1) in the arena, and returns when all have returned. A task may call run() too:
  /// its thread takes other tasks while it waits.
  void run(std::size_t tasks, task_ref body) {
    // By execute a call is cancelled by what its own tasks throw alone. A mere parallel_for inside a task is cancelled
    // by what the task's neighbours throw too, and returns then as if all were done.
    arena_.execute([&] {
      oneapi::tbb::parallel_for(
          std::size_t{0}, tasks, [&](std::size_t i) { body(i); }, oneapi::tbb::simple_partitioner());
    });
  }

 private:
  oneapi::tbb::task_arena arena_;
};

}  // namespace mxfp4
