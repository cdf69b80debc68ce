// tests/support/executors.hpp -- what every executor must do, and executors that throw.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/kernel/dequantize.hpp"
#include "mxfp4/kernel/quantize.hpp"
#include "mxfp4/linalg.hpp"
#include "support/matrix.hpp"
#include "support/product.hpp"
#include "support/random.hpp"

namespace mxfp4::test {

/// Runs `good` tasks, then throws instead of running the next.
struct throwing_executor {
  std::size_t good = 0;
  void run(std::size_t tasks, task_ref body) const {
    for (std::size_t i = 0; i < tasks && i < good; ++i) body(i);
    throw std::runtime_error("no more threads");
  }
};

template <class Executor>
void check_each_task_runs_once(Executor& executor) {
  for (const std::size_t tasks : {0u, 1u, 2u, 3u, 64u, 1000u}) {
    std::vector<std::atomic<int>> calls(tasks);
    const auto body = [&](std::size_t i) { ++calls[i]; };
    executor.run(tasks, body);
    for (const std::atomic<int>& c : calls) REQUIRE(c == 1);
  }
}

/// An exception reaches the caller, and the executor goes on to work.
template <class Executor>
void check_exceptions_pass(Executor& executor) {
  const auto body = [](std::size_t i) {
    if (i % 7 == 3) throw std::runtime_error("task");
  };
  for (int round = 0; round < 3; ++round) REQUIRE_THROWS_AS(executor.run(100, body), std::runtime_error);
  check_each_task_runs_once(executor);
}

/// Whole-matrix functions give the bits of the serial executor, and each has several tasks here.
template <class Executor>
void check_same_bits_as_serial(Executor& executor) {
  constexpr std::int64_t n = 515, k = 1056, m = 19;
  splitmix random(7);
  tokens x(m, k), weights(n, k);
  const auto number = [&](std::int64_t, std::int64_t) { return random.with_exponent(118, 130); };
  x.fill(number);
  weights.fill(number);

  mx_memory<layout::compressed_tensors> one(n, k), many(n, k);
  REQUIRE(kernel::quantize<>(weights.view(), one.view()).ok());
  REQUIRE(
      kernel::quantize<>(weights.view(), many.view(), {.nonfinite = on_nonfinite::encode, .executor = executor}).ok());
  std::vector<float> a(static_cast<std::size_t>(n * k)), b(a.size());
  REQUIRE(kernel::dequantize(one.view(), dense_view<float>{a.data(), n, k, k}).ok());
  REQUIRE(kernel::dequantize(many.view(), dense_view<float>{b.data(), n, k, k}, {.executor = executor}).ok());
  CHECK(same_bits(a, b));

  const result<packed_matrix> packed = pack(one.view(), {.executor = executor});
  const result<int8_activations> q = quantize_activations(x.view(), int8_scaling::e8m0, {.executor = executor});
  REQUIRE(packed);
  REQUIRE(q);
  a.resize(static_cast<std::size_t>(m * n));
  b.resize(a.size());
  const dense_view<float> to_a{a.data(), m, n, n}, to_b{b.data(), m, n, n};
  REQUIRE(gemm(*packed, *q, to_a).ok());
  REQUIRE(gemm(*packed, *q, to_b, {.executor = executor}).ok());
  CHECK(same_bits(a, b));
  REQUIRE(gemm(one.view(), x.view(), to_a).ok());
  REQUIRE(gemm(one.view(), x.view(), to_b, {.executor = executor}).ok());
  CHECK(same_bits(a, b));
}

}  // namespace mxfp4::test
