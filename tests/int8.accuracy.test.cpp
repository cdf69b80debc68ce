// tests/int8.accuracy.test.cpp -- W4A8 against the product in double.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

#include "mxfp4/linalg/int8.hpp"
#include "mxfp4/reference/gemm.hpp"
#include "support/arches.hpp"
#include "support/matrix.hpp"

namespace {

using namespace mxfp4;
using mxfp4::test::mx_memory;
using mxfp4::test::splitmix;

}  // namespace

TEMPLATE_LIST_TEST_CASE("small integers under bytes 120..134: the oracle's bits", "[int8][exact]",
                        mxfp4::test::arches) {
  // |x| <= 8 with an 8 in each block: the scale is 2^3, a code 8 x. Sums are multiples of 2^-8 below 2^16: exact.
  splitmix random(21);
  for (const std::int64_t m : {1, 2, 6, 16, 19, 40})
    for (const std::int64_t k : {32, 96, 256}) {
      const std::int64_t n = 45;
      mx_memory<layout::compressed_tensors> w(n, k);
      w.fill_randomly(random);
      for (std::int64_t r = 0; r < n; ++r)
        for (std::int64_t b = 0; b < k / 32; ++b) w.scale(r, b) = static_cast<std::uint8_t>(random.between(120, 134));
      std::vector<float> x(static_cast<std::size_t>(m * k));
      for (float& v : x) v = static_cast<float>(random.between(-8, 8));
      for (std::size_t i = 0; i < x.size(); i += 32) x[i] = 8.0f;
      const dense_view<const float> xv{x.data(), m, k, k};
      std::vector<double> oracle(static_cast<std::size_t>(m * n));
      std::vector<float> y(oracle.size()), from_view(oracle.size());
      REQUIRE(reference::gemm(w.view(), xv, dense_view<double>{oracle.data(), m, n, n}).ok());
      const result<int8_activations> a = quantize_activations<TestType>(xv, int8_scaling::e8m0);
      REQUIRE(gemm<TestType>(*pack(w.view()), *a, {y.data(), m, n, n}).ok());
      REQUIRE(gemm<TestType>(w.view(), *a, {from_view.data(), m, n, n}).ok());
      int wrong = 0;
      for (std::size_t i = 0; i < y.size(); ++i)
        wrong += static_cast<double>(y[i]) != oracle[i] || static_cast<double>(from_view[i]) != oracle[i];
      CAPTURE(m, k);
      REQUIRE(wrong == 0);
    }
}

TEMPLATE_LIST_TEST_CASE("the documented bound, over the int8 values", "[int8][accuracy]", mxfp4::test::arches) {
  splitmix random(22);
  const std::int64_t m = 9, n = 70, k = 2048;
  mx_memory<layout::compressed_tensors> w(n, k);
  w.fill_randomly(random);
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t b = 0; b < k / 32; ++b) w.scale(r, b) = static_cast<std::uint8_t>(random.between(100, 135));
  std::vector<float> x(static_cast<std::size_t>(m * k));
  for (float& v : x)
    v = std::ldexp(static_cast<float>(random.between(-1000, 1000)), static_cast<int>(random.between(-20, 3)));
  for (const int8_scaling scaling :
       {int8_scaling::e8m0, int8_scaling::f32, int8_scaling::row, int8_scaling::residual2, int8_scaling::residual3}) {
    const result<int8_activations> a =
        quantize_activations<TestType>(dense_view<const float>{x.data(), m, k, k}, scaling);
    std::vector<float> y(static_cast<std::size_t>(m * n));
    REQUIRE(gemm<TestType>(*pack(w.view()), *a, {y.data(), m, n, n}).ok());
    double worst = 0;
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t r = 0; r < n; ++r) {
        double sum = 0, magnitude = 0;
        for (std::int64_t c = 0; c < k; ++c) {
          const double weight = static_cast<double>(
              decode_weight(static_cast<e2m1>(w.code(r, c)), static_cast<e8m0>(w.scale(r, c / 32))));
          for (int t = 0; t < a->terms(); ++t) {
            const double term = weight * a->code(i, c, t) * a->scale(i, c / 32, t);
            sum += term;
            magnitude += std::fabs(term);
          }
        }
        worst =
            std::max(worst, std::fabs(static_cast<double>(y[static_cast<std::size_t>(i * n + r)]) - sum) / magnitude);
      }
    CAPTURE(static_cast<int>(scaling), worst);
    REQUIRE(worst <= 2 * static_cast<double>(k / 32 + a->terms()) *
                         0x1p-24);  // twice: sse2 rounds product and sum of f32 scales
  }
}

TEMPLATE_LIST_TEST_CASE("residual2 and residual3: within the documented bound of the product with x itself",
                        "[int8][accuracy]", mxfp4::test::arches) {
  splitmix random(23);
  const std::int64_t m = 6, n = 33, k = 1024;
  mx_memory<layout::compressed_tensors> w(n, k);
  w.fill_randomly(random);
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t b = 0; b < k / 32; ++b) w.scale(r, b) = static_cast<std::uint8_t>(random.between(115, 135));
  std::vector<float> x(static_cast<std::size_t>(m * k));
  for (float& v : x) v = random.with_exponent(110, 130);
  const auto at = [&](std::int64_t i, std::int64_t c) {
    return static_cast<double>(x[static_cast<std::size_t>(i * k + c)]);
  };
  double mean[2]{};
  for (const int8_scaling scaling : {int8_scaling::residual2, int8_scaling::residual3}) {
    const auto a = quantize_activations<TestType>(dense_view<const float>{x.data(), m, k, k}, scaling);
    std::vector<float> y(static_cast<std::size_t>(m * n));
    REQUIRE(gemm<TestType>(*pack(w.view()), *a, {y.data(), m, n, n}).ok());
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t r = 0; r < n; ++r) {
        double exact = 0, magnitude = 0, off = 0;
        for (std::int64_t b = 0; b < k; b += 32) {
          double amax = 0, weights = 0;
          for (std::int64_t c = b; c < b + 32; ++c) {
            const auto weight = static_cast<double>(
                decode_weight(static_cast<e2m1>(w.code(r, c)), static_cast<e8m0>(w.scale(r, c / 32))));
            exact += weight * at(i, c);
            magnitude += std::fabs(weight * at(i, c));
            weights += std::fabs(weight);
            amax = std::max(amax, std::fabs(at(i, c)));
          }
          off += weights * amax * (a->terms() == 2 ? 0x1p-13 : 0x1p-20);
        }
        const double error = std::fabs(static_cast<double>(y[static_cast<std::size_t>(i * n + r)]) - exact);
        mean[a->terms() - 2] += error / magnitude / static_cast<double>(m * n);
        // the terms' magnitudes add up to 1 + 2^-6 of x's at the most where a code is not 0, and to `off` elsewhere
        REQUIRE(error <= off + static_cast<double>(k / 32 + 2) * 0x1p-24 * (1.1 * magnitude + off));
      }
  }
  CHECK(mean[0] < 2e-5);  // as far apart as the terms are meant to be: e8m0 alone is at 1e-3
  CHECK(mean[1] < 2e-7);
}
