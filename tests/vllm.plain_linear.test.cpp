// tests/vllm.plain_linear.test.cpp -- the vLLM plugin's bfloat16 layers, against sums in double.
// SPDX-License-Identifier: Apache-2.0
//
// Weights and activations are multiples of 1/8 up to 2, so a sum of fewer than 2^16 products, multiples of 1/64, is
// exact in f32 in any order: the result is the sum in double, rounded once to bfloat16.
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_range.hpp>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "integrations/vllm/src/plain_linear.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
namespace vllm = mxfp4::vllm;

/// Those of this CPU.
std::vector<const vllm::plain_kernels*> all_kernels() {
  std::vector<const vllm::plain_kernels*> all;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(&vllm::plain_avx2);
  if (__builtin_cpu_supports("avx512f")) all.push_back(&vllm::plain_avx512);
#endif
  return all;
}

vllm::plain_linear packed(const std::vector<bf16>& w, std::int64_t n, std::int64_t k,
                          const vllm::plain_kernels& kernels, const vllm::workshop& shop) {
  auto layer = vllm::plain_linear::create(w.data(), n, k, kernels, shop.team);
  REQUIRE(layer);
  return *std::move(layer);
}

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

TEST_CASE("kernels of bfloat16 layers are found by the names of instruction sets") {
  for (const char* const name : {"sse2", "neon", "neon_i8mm", "scalar", ""})
    CHECK(vllm::plain_linear::kernels_of(name) == nullptr);
#if defined(__x86_64__)
  for (const char* const name : {"avx2", "avxvnni"}) CHECK(vllm::plain_linear::kernels_of(name) == &vllm::plain_avx2);
  for (const char* const name : {"avx512bw", "avx512vnni", "avx512bf16"})
    CHECK(vllm::plain_linear::kernels_of(name) == &vllm::plain_avx512);
#endif
}

TEST_CASE("a bfloat16 layer is the sum in double, rounded once") {
  const auto kernels = all_kernels();
  if (kernels.empty()) SKIP("not a CPU that it is for");
  const auto& chosen = *GENERATE_COPY(from_range(kernels));
  splitmix random(5);
  vllm::workshop shop;
  shop.most_bytes = 0;  // runs of 16 tokens
  for (const auto& [n, k] : {std::pair<std::int64_t, std::int64_t>{64, 512}, {70, 96}, {1, 1}, {130, 1100}, {16, 0}}) {
    const auto w = eighths(n * k, random);
    const auto layer = packed(w, n, k, chosen, shop);
    CHECK(layer.rows() == n);
    CHECK(layer.cols() == k);
    CHECK(layer.bytes() == (n + 63) / 64 * 64 * k * 2);
    std::vector<float> bias(static_cast<std::size_t>(n));
    for (auto& b : bias) b = static_cast<float>(random.in(-64, 64)) / 8;
    for (const std::int64_t m : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 50}) {
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

TEST_CASE("a token of a bfloat16 layer has the same bits alone, among others and on any instruction set") {
  const auto kernels = all_kernels();
  if (kernels.empty()) SKIP("not a CPU that it is for");
  splitmix random(6);
  vllm::workshop shop;
  const std::int64_t n = 80, k = 1300, m = 20;
  std::vector<bf16> w(static_cast<std::size_t>(n * k)), x(static_cast<std::size_t>(m * k));
  for (auto* numbers : {&w, &x})
    for (auto& value : *numbers) value = encode<bf16>(static_cast<float>(random.in(-30000, 30000)) / 9973);
  std::vector<bf16> all(static_cast<std::size_t>(m * n)), other(static_cast<std::size_t>(m * n));
  packed(w, n, k, *kernels[0], shop).run({x.data(), m, k}, nullptr, {all.data()}, shop);
  for (const vllm::plain_kernels* const one : kernels) {
    const auto layer = packed(w, n, k, *one, shop);
    for (const std::int64_t count : {std::int64_t{1}, std::int64_t{5}, m}) {
      for (std::int64_t t = 0; t < m; t += count)
        layer.run({x.data() + t * k, count, k}, nullptr, {other.data() + t * n}, shop);
      REQUIRE(other == all);
    }
  }
}

TEST_CASE("NaN and infinity of a bfloat16 layer follow IEEE, in their token and row alone") {
  const auto kernels = all_kernels();
  if (kernels.empty()) SKIP("not a CPU that it is for");
  const auto& chosen = *GENERATE_COPY(from_range(kernels));
  vllm::workshop shop;
  const bf16 one = encode<bf16>(1.0f), inf = encode<bf16>(INFINITY), nan = encode<bf16>(NAN);
  std::vector<bf16> w(32, one), x(32, one), y(4);  // 2 x 16 each
  w[3] = inf;
  x[16] = nan;
  const auto layer = packed(w, 2, 16, chosen, shop);
  layer.run({x.data(), 2, 16}, nullptr, {y.data()}, shop);
  CHECK(decode(y[0]) == INFINITY);
  CHECK(decode(y[1]) == 16.0f);
  CHECK(std::isnan(decode(y[2])));
  CHECK(std::isnan(decode(y[3])));
}

}  // namespace
