// mxfp4/executor/openmp.hpp -- tasks on OpenMP.
// SPDX-License-Identifier: Apache-2.0
//
// For units compiled with OpenMP: target_link_libraries(engine PRIVATE mxfp4::mxfp4 OpenMP::OpenMP_CXX).
#pragma once

#if !defined(_OPENMP)
#error "mxfp4/executor/openmp.hpp wants OpenMP: compile this unit with -fopenmp (CMake: OpenMP::OpenMP_CXX)"
#endif

#include <omp.h>

#include <cstddef>
#include <exception>

#include "mxfp4/core/executor_ref.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// mxfp4::openmp_executor team; gemm(w, x, y, {.executor = team});
/// What a task throws is thrown again by run(), the first one if several do, after all tasks have been called: OpenMP
/// itself would end the program.
class openmp_executor {
 public:
  /// @param threads  of a team; 0: what OpenMP takes by itself (OMP_NUM_THREADS).
  explicit openmp_executor(int threads = 0) noexcept : threads_(threads > 0 ? threads : omp_get_max_threads()) {}

  /// Calls body(0) ... body(tasks - 1) on the team, and returns when all have returned.
  void run(std::size_t tasks, task_ref body) const {
    std::exception_ptr thrown;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
    for (std::size_t i = 0; i < tasks; ++i) {
      try {
        body(i);
      } catch (...) {
#pragma omp critical(mxfp4_openmp_executor)
        if (!thrown) thrown = std::current_exception();
      }
    }
    if (thrown) std::rethrow_exception(thrown);
  }

 private:
  int threads_;
};

}  // namespace mxfp4
