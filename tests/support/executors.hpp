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
#include "mxfp4/kernel/quantize_measured.hpp"
#include "mxfp4/linalg.hpp"
#include "mxfp4/tensor/convert.hpp"
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
  // Of tasks that a task waits for, too: what it does behind them is not done.
  std::atomic<int> behind = 0;
  const auto nested = [&](std::size_t) {
    executor.run(100, body);
    ++behind;
  };
  REQUIRE_THROWS_AS(executor.run(3, nested), std::runtime_error);
  REQUIRE(behind == 0);
  // Nor does a task that throws cut short what its neighbours wait for.
  std::atomic<bool> cut_short = false;
  const auto beside = [&](std::size_t i) {
    if (i == 1) throw std::runtime_error("task");
    std::atomic<int> done = 0;
    executor.run(200, [&](std::size_t) { ++done; });
    if (done != 200) cut_short = true;
  };
  for (int round = 0; round < 20; ++round) REQUIRE_THROWS_AS(executor.run(8, beside), std::runtime_error);
  REQUIRE(!cut_short);
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

  std::vector<e4m3> narrow(static_cast<std::size_t>(640 * 2048));
  for (std::size_t i = 0; i < narrow.size(); ++i) narrow[i] = static_cast<e4m3>(i * 7 % 0x7F);
  const std::vector<float> factor(5 * 16, 0.37f);
  const dense_view<const e4m3> fp8{narrow.data(), 640, 2048, 2048};
  const dense_view<const float> factors{factor.data(), 5, 16, 16};
  mx_memory<layout::compressed_tensors> from_one(640, 2048), from_many(640, 2048);
  error_statistics lost, lost_too;
  REQUIRE(kernel::quantize_fp8_measured(fp8, factors, from_one.view(), lost).ok());
  REQUIRE(kernel::quantize_fp8_measured(fp8, factors, from_many.view(), lost_too,
                                        {.nonfinite = on_nonfinite::refuse, .executor = executor})
              .ok());
  CHECK((lost.squared_weights == lost_too.squared_weights && lost.squared_error == lost_too.squared_error));
  CHECK((lost.scales == lost_too.scales && lost.zeroed == lost_too.zeroed));
  mx_memory<layout::swizzled_128x4> tiles(640, 2048);
  mx_memory<layout::compressed_tensors> back(640, 2048);
  REQUIRE(convert(from_many.view(), tiles.view(), {.executor = executor}).ok());
  REQUIRE(convert(tiles.view(), back.view(), {.executor = executor}).ok());
  const auto same_blocks = [](auto& x1, auto& x2, std::int64_t rows, std::int64_t cols) {
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c)
        if (x1.code(r, c) != x2.code(r, c) || x1.scale(r, c / 32) != x2.scale(r, c / 32)) return false;
    return true;
  };
  CHECK(same_blocks(from_one, back, 640, 2048));

  const result<packed_matrix> packed = pack(one.view(), {.executor = executor});
  const result<int8_activations> q = quantize_activations(x.view(), int8_scaling::e8m0, {.executor = executor});
  REQUIRE(packed);
  REQUIRE(q);
  REQUIRE(unpack(*packed, many.view(), {.executor = executor}).ok());
  CHECK(same_blocks(one, many, n, k));
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
