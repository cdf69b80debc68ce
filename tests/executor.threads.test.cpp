// tests/executor.threads.test.cpp -- plain threads as an executor: the serial bits, from every function at once.
// SPDX-License-Identifier: Apache-2.0
//
// Of use under ThreadSanitizer, which sees everything that std::thread orders (preset tsan).
#include "support/executors.hpp"
#include "support/threads.hpp"

TEST_CASE("executor: plain threads, 1 to 4", "[executor]") {
  for (const std::size_t count : {1u, 2u, 3u, 4u}) {
    CAPTURE(count);
    mxfp4::test::threads team{count};
    mxfp4::test::check_each_task_runs_once(team);
    mxfp4::test::check_same_bits_as_serial(team);
  }
}
