// tests/linalg.equal.test.cpp -- packed matrices through the public page: the same answer as the view they came from.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <vector>

#include "mxfp4/linalg.hpp"
#include "mxfp4/reference/gemm.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "support/random.hpp"

using namespace mxfp4;

TEST_CASE("linalg: packed weights with f32 and int8 activations against the oracle", "[linalg]") {
  constexpr std::int64_t n = 37, k = 160, m = 5;
  test::splitmix random(3);
  std::vector<float> weights(n * k), x(m * k);
  for (float& w : weights) w = std::ldexp(static_cast<float>(random.in(-1000, 1000)), -14);
  for (float& v : x) v = std::ldexp(static_cast<float>(random.in(-1000, 1000)), -8);
  std::vector<std::uint8_t> codes(n * k / 2), scales(n * k / 32);
  const mx_view<> w = *make_view(std::span(codes), std::span(scales), n, k);
  REQUIRE(reference::quantize(dense_view<const float>{weights.data(), n, k, k}, w).ok());

  std::vector<double> exact(m * n);
  const dense_view<const float> tokens{x.data(), m, k, k};
  REQUIRE(reference::gemm(w, tokens, dense_view<double>{exact.data(), m, n, n}).ok());
  double norm = 0;
  for (const double v : exact) norm += v * v;
  const auto relative_error = [&](const std::vector<float>& y) {
    double error = 0;
    for (std::size_t i = 0; i < y.size(); ++i) error += (y[i] - exact[i]) * (y[i] - exact[i]);
    return std::sqrt(error / norm);
  };

  const result<packed_matrix> packed = pack(w);
  REQUIRE(packed);
  std::vector<float> y(m * n), one(n);
  REQUIRE(gemm(*packed, tokens, dense_view<float>{y.data(), m, n, n}).ok());
  CHECK(relative_error(y) < 1e-6);
  REQUIRE(gemv(*packed, std::span(x).first(k), one).ok());
  for (std::size_t i = 0; i < n; ++i) CHECK(std::abs(one[i] - exact[i]) < 1e-5 * std::sqrt(norm));

  const result<int8_activations> quantized = quantize_activations(tokens, int8_scaling::f32);
  REQUIRE(quantized);
  REQUIRE(gemm(*packed, *quantized, dense_view<float>{y.data(), m, n, n}).ok());
  CHECK(relative_error(y) < 0.01);  // 8 bits: half a step of 1/127 of a block's largest value
}
