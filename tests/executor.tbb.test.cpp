// tests/executor.tbb.test.cpp -- oneTBB as an executor: each task once, the serial bits, exceptions passed on.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/executor/tbb.hpp"

#include "support/executors.hpp"

TEST_CASE("tbb_executor: 1 to 4 threads and oneTBB's own number", "[executor]") {
  for (const int threads : {0, 1, 2, 4}) {
    CAPTURE(threads);
    mxfp4::tbb_executor executor(threads);
    mxfp4::test::check_each_task_runs_once(executor);
    mxfp4::test::check_same_bits_as_serial(executor);
    mxfp4::test::check_exceptions_pass(executor);
  }
}
