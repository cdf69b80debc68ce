// tests/cuda/gemm.emulated.test.cpp -- products of more than eight tokens under the emulator.
// SPDX-License-Identifier: Apache-2.0
//
// Expectations come from reference::gemm in double and from integers. The emulator checks every access and barrier.
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <vector>

#include "cuda/product.support.hpp"
#include "mxfp4/cuda/gemm.cuh"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

/// Every edge: one row, a row past a tile, one block, an odd number of them, fewer steps than stages and more, tokens
/// of two tiles.
constexpr product_shape shapes[] = {
    {9, 1, 32, 0}, {64, 128, 64, 0}, {65, 130, 96, 1}, {20, 37, 544, 3}, {130, 40, 192, 2}};

template <class X, class Y = float>
std::vector<float> product(device_weights& w, const tokens& x, std::int64_t n, std::int64_t gap = 0) {
  device_tokens<X> dx(x, 8 * gap);
  device_results<Y> y(x.rows, n, gap);
  REQUIRE(cuda::gemm(w.view(), dx.view(), y.view(), nullptr) == cudaSuccess);
  return y.values();
}

}  // namespace

TEMPLATE_TEST_CASE("cuda::gemm: sums that fit a float come out exactly, in any order of the threads", "[cuda][gemm]",
                   bf16, f16) {
  check_exact_sums(shapes, product<TestType>);
}

TEMPLATE_TEST_CASE("cuda::gemm: every scale byte with every code", "[cuda][gemm][special]", bf16, f16) {
  check_every_scale(9, product<TestType>);
}

TEMPLATE_TEST_CASE("cuda::gemm: within the bound, and special values as the reference has them", "[cuda][gemm]", bf16,
                   f16) {
  check_bound_and_specials(12, 140, product<TestType>);
}

TEST_CASE("cuda::gemm: a NaN scale after a row's end does not count", "[cuda][gemm][special]") {
  check_scales_past_a_row(10, 40, product<bf16>);
}

TEST_CASE("cuda::gemm: same bits for any number of tokens; results in f16", "[cuda][gemm]") {
  check_fewer_tokens(70, product<bf16>);
  check_results_in_f16(product<f16>, product<f16, f16>);
}

TEST_CASE("cuda::gemm: up to eight tokens are gemv's", "[cuda][gemm]") {
  splitmix random(5);
  device_weights w(20, 96);
  fill(w.host, 20, 96, byte_range(110, 127), random);
  tokens x(8, 96);
  x.fill([&](auto, auto) { return static_cast<float>(random.between(-99, 99)); });
  device_tokens<bf16> dx(x, 0);
  device_results<float> y(8, 20);
  REQUIRE(cuda::gemv(w.view(), dx.view(), y.view(), nullptr) == cudaSuccess);
  CHECK(same_bits(product<bf16>(w, x, 20), y.values()));
}

TEST_CASE("cuda::gemm: what is refused", "[cuda][gemm][bad_input]") {
  device_weights w(4, 64);
  splitmix random(6);
  fill(w.host, 4, 64, {127}, random);
  tokens ones(9, 64);
  ones.fill([](auto, auto) { return 1.0f; });
  const device_tokens<bf16> x(ones, 0);
  device_results<float> y(9, 4);
  auto bad = w.view();
  bad.codes += 4;
  CHECK(cuda::gemm(bad, x.view(), y.view(), nullptr) == cudaErrorInvalidValue);
  bad = w.view();
  bad.cols = 48;
  CHECK(cuda::gemm(bad, x.view(), y.view(), nullptr) == cudaErrorInvalidValue);
  // 2^31 - 1 rows and tokens: Y would have 2^62 elements, and more tiles than a grid
  const std::int64_t lines = (std::int64_t{1} << 31) - 1;
  bad = w.view();
  bad.rows = lines;
  const dense_view<const bf16> many{reinterpret_cast<const bf16*>(std::uintptr_t{1} << 40), lines, 64, 64};
  const dense_view<float> large{reinterpret_cast<float*>(std::uintptr_t{1} << 61), lines, lines, lines};
  CHECK(cuda::check_product(bad, many, dense_view<float>{large.data, 1, 1, 1}).code == errc::shape_mismatch);
  CHECK(cuda::gemm(bad, many, large, nullptr) != cudaSuccess);
  CHECK(y.untouched());
}
