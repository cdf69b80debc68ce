// tests/executor.property.test.cpp -- what an executor is, and that an executor_ref runs the one it was made of.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <vector>

#include "mxfp4/core/executor_ref.hpp"

namespace {

using mxfp4::executor_ref;
using mxfp4::task_ref;

/// Counts its calls, and has another overload for a const object.
struct counting {
  int calls = 0;
  mutable int const_calls = 0;
  void run(std::size_t tasks, task_ref body) {
    ++calls;
    for (std::size_t i = tasks; i-- > 0;) body(i);
  }
  void run(std::size_t tasks, task_ref body) const {
    ++const_calls;
    for (std::size_t i = 0; i < tasks; ++i) body(i);
  }
};
struct only_mutable {
  void run(std::size_t, task_ref) {}
};
struct wrong_arguments {
  void run(task_ref, std::size_t) {}
};

std::vector<std::size_t> order(executor_ref with) {
  std::vector<std::size_t> seen;
  with.run(3, [&seen](std::size_t i) { seen.push_back(i); });
  return seen;
}

}  // namespace

TEST_CASE("executor: run takes a number of tasks and a task_ref", "[executor]") {
  STATIC_CHECK(mxfp4::executor<counting> && mxfp4::executor<const counting>);
  STATIC_CHECK(mxfp4::executor<only_mutable> && !mxfp4::executor<const only_mutable>);
  STATIC_CHECK(mxfp4::executor<mxfp4::serial_executor> && mxfp4::executor<executor_ref>);
  STATIC_CHECK_FALSE(mxfp4::executor<wrong_arguments>);
  STATIC_CHECK_FALSE(mxfp4::executor<decltype([](std::size_t, task_ref) {})>);
}

TEST_CASE("executor_ref: runs the executor it was made of, const as that is", "[executor]") {
  counting pool;
  const counting& const_pool = pool;
  CHECK(order(pool) == std::vector<std::size_t>{2, 1, 0});
  CHECK(order(const_pool) == std::vector<std::size_t>{0, 1, 2});
  CHECK((pool.calls == 1 && pool.const_calls == 1));
  executor_ref kept = pool;
  const executor_ref copy = kept;
  kept = const_pool;
  CHECK(order(copy) == std::vector<std::size_t>{2, 1, 0});
  CHECK(order(kept) == std::vector<std::size_t>{0, 1, 2});
  CHECK((pool.calls == 2 && pool.const_calls == 2));
  CHECK(order({}) == std::vector<std::size_t>{0, 1, 2});
}
