// tests/cuda/gemv_mma16.emulated.test.cpp -- products with weights in the tensor cores' order, under the emulator.
// SPDX-License-Identifier: Apache-2.0
//
// Expectations come from reference_gemm in double and from integers. The emulator checks every access and barrier.
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cuda/product.support.hpp"
#include "mxfp4/cuda/gemv_mma16.cuh"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

struct shape {
  std::int64_t m, n, k;
};
/// One row, a row past a tile, one tile where two are done at once, odd blocks, a warp with more steps than are ahead.
constexpr shape shapes[] = {{1, 1, 32}, {2, 33, 2080}, {3, 16, 96}, {4, 31, 1312}, {8, 49, 544}};

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
  splitmix random(1);
  std::uint64_t seed = 1;
  for (const auto& bytes : {byte_range(120, 127), byte_range(120, 131)})  // without and with wide scales
    for (const auto& [m, n, k] : shapes) {
      CAPTURE(m, n, k, bytes.size());
      device_settings.seed = ++seed;
      device_weights w(n, k);
      fill(w.host, n, k, bytes, random);
      tokens x(m, k);
      x.fill([&](auto, auto) { return static_cast<float>(random.between(-2, 2)); });
      const exact_product exact(w.host, n, x);
      REQUIRE(exact.ok);
      for (const double magnitude : exact.magnitudes) REQUIRE(magnitude < 0x1p16);  // units of 2^-8: 24 bits
      const std::vector<float> y = product<TestType>(w, x, n, 1);
      std::int64_t wrong = 0;
      for (std::size_t i = 0; i < y.size(); ++i) wrong += y[i] != static_cast<float>(exact.sum[i]);
      CHECK(wrong == 0);
    }
}

TEMPLATE_TEST_CASE("cuda::gemv mma16: every scale byte with every code; NaN and infinity", "[cuda][gemv]", bf16, f16) {
  for (unsigned code = 0; code < 16; ++code) {
    device_weights w(256, 64);
    tokens x(3, 64);
    x.fill([](std::int64_t m, std::int64_t k) { return m == 1 ? 0x1p-12f : k == 37 ? 1.0f : 0.0f; });
    x.at(2, 60) = std::numeric_limits<float>::infinity();
    for (std::int64_t n = 0; n < 256; ++n)
      for (std::int64_t b = 0; b < 2; ++b) {
        w.host.scale(n, b) = b == 0 ? std::uint8_t{127} : static_cast<std::uint8_t>(n);
        for (std::int64_t k = 0; k < 32; ++k) w.host.set_code(n, 32 * b + k, b == 0 ? 0u : code);
      }
    const exact_product exact(w.host, 256, x);
    REQUIRE(exact.ok);
    const std::vector<float> y = product<TestType>(w, x, 256);
    for (std::size_t i = 0; i < y.size(); ++i) {
      CAPTURE(code, i % 256, i / 256);
      if (kind_of(exact.sum[i]) == number_kind::finite) CHECK(y[i] == static_cast<float>(exact.sum[i]));
      else CHECK(kind_of(y[i]) == kind_of(exact.sum[i]));
    }
  }
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
  refuses("x.rows is 9, expected 0 to 8", [](auto&, auto& x, auto&) { x.rows = 9; });
  refuses("x.cols is 32, expected 64", [](auto&, auto& x, auto&) { x.cols = 32; });
  refuses("y.cols is 19, expected 20", [](auto&, auto&, auto& y) { y.cols = 19; });
  refuses("y overlaps an input: pass separate memory",
          [](auto& a, auto&, auto& y) { y.data = reinterpret_cast<float*>(const_cast<std::uint8_t*>(a.codes)); });
}
