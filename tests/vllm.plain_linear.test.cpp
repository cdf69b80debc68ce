// tests/vllm.plain_linear.test.cpp -- the vLLM plugin's bfloat16 layers, against sums in double.
// SPDX-License-Identifier: Apache-2.0
//
// Weights and activations are multiples of 1/8 up to 2, so a sum of fewer than 2^16 products, multiples of 1/64, is
// exact in f32 in any order: the result is the sum in double, rounded once to bfloat16.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

#include "integrations/vllm/src/plain_linear.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
namespace vllm = mxfp4::vllm;

/// The nearest number of 8 significant bits, the even one of two.
double to_eight_bits(double x) {
  int exponent = 0;
  const double part = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(part, 8)), exponent - 8);
}

std::vector<bf16> eighths(std::int64_t count, splitmix& random) {
  std::vector<bf16> x(static_cast<std::size_t>(count));
  for (auto& value : x) value = encode<bf16>(static_cast<float>(random.in(-16, 16)) / 8);
  return x;
}

TEST_CASE("a bfloat16 layer is the sum in double, rounded once") {
  if (!vllm::plain_linear::suits()) SKIP("not a CPU that it is for");
  splitmix random(5);
  vllm::workshop shop;
  shop.most_bytes = 0;  // runs of 16 tokens
  for (const auto& [n, k] : {std::pair<std::int64_t, std::int64_t>{64, 512}, {70, 96}, {1, 1}, {130, 1100}, {16, 0}}) {
    const auto w = eighths(n * k, random);
    const auto layer = vllm::plain_linear::create(w.data(), n, k, shop.team);
    CHECK(layer.rows() == n);
    CHECK(layer.cols() == k);
    CHECK(layer.bytes() == (n + 63) / 64 * 64 * k * 2);
    std::vector<float> bias(static_cast<std::size_t>(n));
    for (auto& b : bias) b = static_cast<float>(random.in(-64, 64)) / 8;
    for (const std::int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 13, 50}) {
      const std::int64_t stride = k + 3;
      const auto x = eighths(m * stride, random);
      std::vector<bf16> y(static_cast<std::size_t>(m * n));
      for (const float* b : {static_cast<const float*>(nullptr), static_cast<const float*>(bias.data())}) {
        layer.run({x.data(), m, stride}, b, {y.data()}, shop);
        for (std::int64_t i = 0; i < m * n; ++i) {
          double sum = b == nullptr ? 0.0 : static_cast<double>(b[i % n]);
          for (std::int64_t c = 0; c < k; ++c)
            sum += static_cast<double>(decode(x[static_cast<std::size_t>(i / n * stride + c)])) *
                   static_cast<double>(decode(w[static_cast<std::size_t>(i % n * k + c)]));
          CAPTURE(n, k, m, i, sum);
          REQUIRE(static_cast<double>(decode(y[static_cast<std::size_t>(i)])) == to_eight_bits(sum));
        }
      }
    }
  }
}

TEST_CASE("a token of a bfloat16 layer has the same bits alone and among others") {
  if (!vllm::plain_linear::suits()) SKIP("not a CPU that it is for");
  splitmix random(6);
  vllm::workshop shop;
  const std::int64_t n = 80, k = 1300, m = 20;
  std::vector<bf16> w(static_cast<std::size_t>(n * k)), x(static_cast<std::size_t>(m * k));
  for (auto* numbers : {&w, &x})
    for (auto& value : *numbers) value = encode<bf16>(static_cast<float>(random.in(-30000, 30000)) / 9973);
  const auto layer = vllm::plain_linear::create(w.data(), n, k, shop.team);
  std::vector<bf16> all(static_cast<std::size_t>(m * n)), alone(static_cast<std::size_t>(n));
  layer.run({x.data(), m, k}, nullptr, {all.data()}, shop);
  for (std::int64_t t = 0; t < m; ++t) {
    layer.run({x.data() + t * k, 1, k}, nullptr, {alone.data()}, shop);
    REQUIRE(std::vector<bf16>(all.begin() + t * n, all.begin() + (t + 1) * n) == alone);
  }
}

TEST_CASE("NaN and infinity of a bfloat16 layer follow IEEE, in their token and row alone") {
  if (!vllm::plain_linear::suits()) SKIP("not a CPU that it is for");
  vllm::workshop shop;
  const bf16 one = encode<bf16>(1.0f), inf = encode<bf16>(INFINITY), nan = encode<bf16>(NAN);
  std::vector<bf16> w(32, one), x(32, one), y(4);  // 2 x 16 each
  w[3] = inf;
  x[16] = nan;
  const auto layer = vllm::plain_linear::create(w.data(), 2, 16, shop.team);
  layer.run({x.data(), 2, 16}, nullptr, {y.data()}, shop);
  CHECK(decode(y[0]) == INFINITY);
  CHECK(decode(y[1]) == 16.0f);
  CHECK(std::isnan(decode(y[2])));
  CHECK(std::isnan(decode(y[3])));
}

}  // namespace
