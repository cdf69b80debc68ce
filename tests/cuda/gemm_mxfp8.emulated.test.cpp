// tests/cuda/gemm_mxfp8.emulated.test.cpp -- products of MXFP8 activations and a checkpoint's weights, emulated.
// SPDX-License-Identifier: Apache-2.0
//
// Each way of the tensor cores: e4m3 on sm_89, block-scaled on sm_120a. Expectations: mxfp8.support.hpp. The emulator
// checks every access and barrier.
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cuda/mxfp8.support.hpp"
#include "mxfp4/cuda/gemm_mxfp8.cuh"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using cuda::device::sm_120a, cuda::device::sm_89;

template <class Target, class Y = float>
std::vector<float> product_of(device_weights& w, std::int64_t n, const const_mxfp8_view& x) {
  device_results<Y> y(x.rows, n, 1);
  REQUIRE(cuda::gemm<Y, Target>(w.view(), x, y.view(), nullptr) == cudaSuccess);
  return y.values();
}
template <class Target>
std::vector<float> product(device_weights& w, std::int64_t n, const mxfp8_tokens& x) {
  return product_of<Target>(w, n, x.view);
}

/// Any finite elements under any scales of activations.
mxfp8_tokens any_tokens(std::int64_t m, std::int64_t k, splitmix& random) {
  return {m,
          k,
          0,
          0,
          [&](auto, auto) { return static_cast<std::uint8_t>(random.between(0, 1) << 7 | random.between(0, 0x7E)); },
          [&](auto, auto) { return static_cast<std::uint8_t>(random.between(110, 140)); }};
}

}  // namespace

TEMPLATE_TEST_CASE("cuda::gemm MXFP8: sums that fit a float come out exactly, in any order of the threads",
                   "[cuda][gemm][mxfp8]", sm_89, sm_120a) {
  // One row, rows past a tile, one block, an odd number whose scales straddle words, fewer steps than stages and
  // more, each number of tokens up to nine, tokens of two tiles.
  constexpr product_shape shapes[] = {{1, 1, 32, 0},  {2, 17, 288, 1},  {3, 130, 96, 3},  {4, 31, 1312, 2},
                                      {5, 40, 64, 0}, {6, 65, 160, 1},  {7, 5, 256, 0},   {8, 35, 544, 3},
                                      {9, 1, 32, 0},  {70, 130, 96, 1}, {64, 128, 64, 0}, {33, 20, 416, 2}};
  check_exact_mxfp8_sums(shapes, product<TestType>);
}

TEMPLATE_TEST_CASE("cuda::gemm MXFP8: every scale byte of the weights under bytes of the activations",
                   "[cuda][gemm][mxfp8][special]", sm_89, sm_120a) {
  check_every_mxfp8_scale({0, 1, 100, 127, 150, 180, 190, 191}, product<TestType>);
  check_every_mxfp8_scale({127, 191, 192, 253, 254, 255}, product<TestType>);
  std::vector<std::uint8_t> many = byte_range(0, 8);
  for (int byte = 9; byte < 256; byte += 5) many.push_back(static_cast<std::uint8_t>(byte));
  check_every_mxfp8_scale(many, product<TestType>);
}

TEMPLATE_TEST_CASE("cuda::gemm MXFP8: within the bound; NaN stays with its token", "[cuda][gemm][mxfp8]", sm_89,
                   sm_120a) {
  check_mxfp8_bound(6, byte_range(100, 127), product<TestType>);
  check_mxfp8_bound(20, byte_range(100, 127), product<TestType>);
  check_mxfp8_bound(20, byte_range(100, 154), product<TestType>);  // wide
  check_mxfp8_bound(9, {0, 1, 2, 3}, product<TestType>);           // results below 2^-126
}

TEST_CASE("cuda::gemm MXFP8: within the bound of tensor cores that keep 13 bits", "[cuda][gemm][mxfp8]") {
  device_settings.fp8_fraction_bits = 13;
  const double by_blocks = check_mxfp8_bound(20, byte_range(100, 127), product<sm_89>, 0x1p-7);
  const double in_tensor_core =
      check_mxfp8_bound(20, byte_range(100, 127), product<sm_120a>, static_cast<double>(mxfp8_bound_cols) * 0x1p-12);
  device_settings.fp8_fraction_bits = 0;
  CHECK(by_blocks > 0x1p-15);  // they do cut off
  CHECK(in_tensor_core > by_blocks);
}

TEMPLATE_TEST_CASE("cuda::gemm MXFP8: a NaN scale after a row's end does not count", "[cuda][gemm][mxfp8][special]",
                   sm_89, sm_120a) {
  for (const std::int64_t k : {32, 96, 288})
    for (const std::int64_t m : {4, 12}) {
      CAPTURE(k, m);
      device_weights w(40, k);
      splitmix random(3);
      fill(w.host, 40, k, {126, 127}, random);
      for (std::int64_t b = 0; b < k / 32; ++b) w.host.scale(9, b) = 255;
      const mxfp8_tokens x(
          m, k, 0, 0, [&](auto, auto) { return random.between(0, 1) == 0 ? std::uint8_t{0x38} : std::uint8_t{0xC0}; },
          [](std::int64_t r, auto) { return r == 2 ? std::uint8_t{255} : std::uint8_t{127}; });
      const exact_mxfp8_product exact(w, 40, x);
      for (std::size_t i = 0; i < exact.sum.size(); ++i)
        REQUIRE(std::isnan(exact.sum[i]) == (i % 40 == 9 || i / 40 == 2));
      CHECK(not_nearest(product<TestType>(w, 40, x), exact.sum) == 0);
    }
}

TEMPLATE_TEST_CASE("cuda::gemm MXFP8: same bits for any number of tokens; results in bf16 and f16",
                   "[cuda][gemm][mxfp8]", sm_89, sm_120a) {
  splitmix random(4);
  device_weights w(33, 352);
  fill(w.host, 33, 352, byte_range(110, 130), random);
  const mxfp8_tokens x = any_tokens(70, 352, random);
  const std::vector<float> all = product<TestType>(w, 33, x);
  for (const std::int64_t m : {9, 64, 65}) {
    device_settings.seed = static_cast<std::uint64_t>(50 + m);
    CHECK(same_bits(product_of<TestType>(w, 33, x.first(m)), {all.begin(), all.begin() + m * 33}));
  }
  const std::vector<float> eight = product_of<TestType>(w, 33, x.first(8));
  CHECK(same_bits(product_of<TestType>(w, 33, x.first(3)), {eight.begin(), eight.begin() + 3 * 33}));
  const std::vector<float> in_bf16 = product_of<TestType, bf16>(w, 33, x.first(3)),
                           in_f16 = product_of<TestType, f16>(w, 33, x.first(3));
  for (std::size_t i = 0; i < in_bf16.size(); ++i) {
    CHECK(same_bits(in_bf16[i], decode(encode_bf16(eight[i]))));
    CHECK(same_bits(in_f16[i], decode(encode_f16(eight[i]))));
  }
}

TEST_CASE("cuda::gemm MXFP8: what is refused, before anything is written", "[cuda][gemm][mxfp8][bad_input]") {
  device_weights weights(4, 64, 16);
  splitmix random(6);
  fill(weights.host, 4, 64, {127}, random);
  const mxfp8_tokens tokens_of = any_tokens(9, 64, random);
  device_results<float> out(9, 4);
  const auto refuses = [&](const char* sentence, auto&& change) {
    const_mx_view<> w = weights.view();
    const_mxfp8_view x = tokens_of.view;
    dense_view<float> y = out.view();
    change(w, x, y);
    CHECK(message(cuda::check_product(w, x, y)).view() == sentence);
    CHECK(cuda::gemm<float, sm_89>(w, x, y, nullptr) == cudaErrorInvalidValue);
    CHECK(out.untouched());
  };
  refuses("w.codes is 8 bytes past a multiple of 16: align it", [](auto& w, auto&, auto&) { w.codes += 8; });
  refuses("w.scales is 2 bytes past a multiple of 4: align it", [](auto& w, auto&, auto&) { w.scales += 2; });
  refuses("x.elements is 8 bytes past a multiple of 16: align it", [](auto&, auto& x, auto&) { x.elements += 8; });
  refuses("x.element_stride is 8 bytes past a multiple of 16: align it",
          [](auto&, auto& x, auto&) { x.element_stride += 8; });
  refuses("x.scales is 1 bytes past a multiple of 4: align it", [](auto&, auto& x, auto&) { x.scales += 1; });
  refuses("x.scales is null, expected memory for 18 elements", [](auto&, auto& x, auto&) { x.scales = nullptr; });
  refuses("x.rows is 0, expected 1", [](auto&, auto& x, auto&) { x.rows = 0; });
  refuses("x.cols is 32, expected 64", [](auto&, auto& x, auto&) { x.cols = 32; });
  refuses("y.cols is 3, expected 4", [](auto&, auto&, auto& y) { y.cols = 3; });
  refuses("y overlaps an input: pass separate memory",
          [](auto&, auto& x, auto& y) { y.data = reinterpret_cast<float*>(const_cast<std::uint8_t*>(x.elements)); });
  const auto run = [&]<class Target>(Target) {
    return cuda::gemm<float, Target>(weights.view(), tokens_of.view, out.view(), nullptr);
  };
  CHECK(run(cuda::device::sm_80{}) == cudaErrorNotSupported);  // no mma of e4m3 in hardware there
  CHECK(run(cuda::device::sm_90a{}) == cudaErrorNotSupported);
  CHECK(run(cuda::device::sm_100a{}) == cudaErrorNotSupported);
  CHECK(out.untouched());
  CHECK(run(cuda::device::sm_89{}) == cudaSuccess);
  CHECK(run(cuda::device::sm_120a{}) == cudaSuccess);
}
