// tests/executor.openmp.test.cpp -- OpenMP as an executor: each task once, the serial bits, exceptions passed on.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/executor/openmp.hpp"

#include "support/executors.hpp"

TEST_CASE("openmp_executor: 1 to 4 threads and OpenMP's own number", "[executor]") {
  for (const int threads : {0, 1, 2, 4}) {
    CAPTURE(threads);
    mxfp4::openmp_executor executor(threads);
    mxfp4::test::check_each_task_runs_once(executor);
    mxfp4::test::check_same_bits_as_serial(executor);
    mxfp4::test::check_exceptions_pass(executor);
  }
}

TEST_CASE("openmp_executor: all tasks are called although some throw", "[executor]") {
  std::vector<std::atomic<int>> calls(50);
  const auto body = [&](std::size_t i) {
    ++calls[i];
    if (i % 2 == 0) throw std::runtime_error("task");
  };
  CHECK_THROWS_AS(mxfp4::openmp_executor(3).run(calls.size(), body), std::runtime_error);
  for (const std::atomic<int>& c : calls) CHECK(c == 1);
}
