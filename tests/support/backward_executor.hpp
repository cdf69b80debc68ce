// tests/support/backward_executor.hpp -- an executor that runs the last task first, and counts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "mxfp4/core/executor_ref.hpp"

namespace mxfp4::test {

struct backward_executor {
  std::size_t rounds = 0;  ///< calls of run
  std::size_t tasks = 0;   ///< of all rounds

  void run(std::size_t count, task_ref body) {
    ++rounds;
    tasks += count;
    for (std::size_t i = count; i-- > 0;) body(i);
  }
};

}  // namespace mxfp4::test
