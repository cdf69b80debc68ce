// tests/support/threads.hpp -- an executor of plain threads: task i on thread i % count, the last ones first.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <thread>
#include <vector>

#include "mxfp4/core/executor_ref.hpp"

namespace mxfp4::test {

struct threads {
  std::size_t count;
  void run(std::size_t tasks, task_ref body) const {
    std::vector<std::thread> team;
    for (std::size_t t = 0; t < count; ++t)
      team.emplace_back([=, this] {
        for (std::size_t i = tasks; i-- > 0;)
          if (i % count == t) body(i);
      });
    for (std::thread& t : team) t.join();
  }
};

}  // namespace mxfp4::test
