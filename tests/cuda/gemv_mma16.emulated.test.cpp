// tests/cuda/gemv_mma16.emulated.test.cpp -- products with weights in the tensor cores' order, under the emulator.
// SPDX-License-Identifier: Apache-2.0
//
// Expectations come from reference::gemm in double and from integers. The emulator checks every access and barrier.
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cuda/product.support.hpp"
#include "mxfp4/cuda/gemv_mma16.cuh"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

/// One row, a row past a tile, one tile where two are done at once, odd blocks, a warp with more steps than are ahead.
constexpr product_shape shapes[] = {{1, 1, 32, 1}, {2, 33, 2080, 0}, {3, 16, 96, 1}, {4, 31, 1312, 2}, {8, 49, 544, 1}};

/// The weights in tiles, packed on the device.
struct packed_weights {
  explicit packed_weights(const const_mx_view<>& w)
      : codes(static_cast<std::size_t>((*cuda::mma16_bytes_needed(w.rows, w.cols)).codes)),
        scales(static_cast<std::size_t>((*cuda::mma16_bytes_needed(w.rows, w.cols)).scales)),
        view{codes.data(), scales.data(), w.rows, w.cols} {
    REQUIRE(cuda::pack_mma16(w, view, nullptr) == cudaSuccess);
  }
  device_array<std::uint8_t> codes, scales;
  cuda::mma16_view view;
};

template <class X>
std::vector<float> product(device_weights& w, const tokens& x, std::int64_t n, std::int64_t gap = 0) {
  const packed_weights packed(w.view());
  const device_tokens<X> dx(x, 8 * gap);
  device_results<float> y(x.rows, n, gap);
  REQUIRE(cuda::gemv(cuda::const_mma16_view(packed.view), dx.view(), y.view(), nullptr) == cudaSuccess);
  return y.values();
}

}  // namespace

TEMPLATE_TEST_CASE("cuda::gemv mma16: sums that fit a float come out exactly", "[cuda][gemv]", bf16, f16) {
  check_exact_sums(shapes, product<TestType>);
}

TEMPLATE_TEST_CASE("cuda::gemv mma16: every scale byte with every code; NaN and infinity", "[cuda][gemv]", bf16, f16) {
  check_every_scale(3, product<TestType>);
}

TEMPLATE_TEST_CASE("cuda::gemv mma16: within the bound; same bits for any M and order of the threads", "[cuda][gemv]",
                   bf16, f16) {
  splitmix random(2);
  device_weights w(40, 800);
  fill(w.host, 40, 800, byte_range(100, 154), random);
  tokens x(8, 800), first(1, 800);
  x.fill([&](auto, auto) { return std::ldexp(static_cast<float>(random.between(-255, 255)), random.in(-14, 0)); });
  first.fill([&](auto, std::int64_t k) { return x.at(0, k); });
  const exact_product exact(w.host, 40, x);
  const std::vector<float> y = product<TestType>(w, x, 40);
  CHECK(outside_bound(y, exact, 800) == 0);
  device_settings.seed = 99;
  CHECK(same_bits(product<TestType>(w, first, 40), {y.begin(), y.begin() + 40}));
}

TEST_CASE("cuda::gemv mma16: what is refused, before anything is written", "[cuda][gemv][bad_input]") {
  device_weights w(20, 64);
  splitmix random(3);
  fill(w.host, 20, 64, {127}, random);
  const packed_weights packed(w.view());
  tokens ones(8, 64);
  ones.fill([](auto, auto) { return 1.0f; });
  const device_tokens<bf16> tokens_of(ones, 0);
  device_results<float> out(8, 20);
  const auto refuses = [&](const char* sentence, auto&& change) {
    cuda::const_mma16_view a = packed.view;
    auto x = tokens_of.view();
    auto y = out.view();
    change(a, x, y);
    CHECK(message(cuda::check_product(a, x, y, cuda::gemv_tokens)).view() == sentence);
    CHECK(cuda::gemv(a, x, y, nullptr) != cudaSuccess);
    CHECK(out.untouched());
  };
  refuses("w.codes is 8 bytes past a multiple of 16: align it", [](auto& a, auto&, auto&) { a.codes += 8; });
  refuses("w.scales is null, expected memory for 64 elements", [](auto& a, auto&, auto&) { a.scales = nullptr; });
  refuses("w.rows is 0, expected 1", [](auto& a, auto&, auto&) { a.rows = 0; });
  refuses("x.rows is 9, expected at most 8", [](auto&, auto& x, auto&) { x.rows = 9; });
  refuses("x.cols is 32, expected 64", [](auto&, auto& x, auto&) { x.cols = 32; });
  refuses("y.cols is 19, expected 20", [](auto&, auto&, auto& y) { y.cols = 19; });
  refuses("y overlaps an input: pass separate memory",
          [](auto& a, auto&, auto& y) { y.data = reinterpret_cast<float*>(const_cast<std::uint8_t*>(a.codes)); });
}
