// tests/cuda/gemv.emulated.test.cpp -- products of up to eight tokens under the emulator.
// SPDX-License-Identifier: Apache-2.0
//
// Expectations come from reference::gemm in double and from integers. The emulator checks every access and barrier.
#include <sys/mman.h>

#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cuda/product.support.hpp"
#include "mxfp4/cuda/gemv.cuh"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

/// Every edge: one row, a row past a tile, one block, odd blocks whose scales straddle words, steps fewer than warps, a
/// warp with several steps, each number of tokens.
constexpr product_shape shapes[] = {{1, 1, 32, 0},  {1, 17, 288, 1}, {2, 33, 2080, 0}, {3, 32, 96, 3}, {4, 31, 1312, 2},
                                    {5, 40, 64, 0}, {6, 65, 160, 1}, {7, 5, 256, 0},   {8, 35, 544, 3}};

template <class X, class Y = float>
std::vector<float> product(device_weights& w, const tokens& x, std::int64_t n, std::int64_t gap = 0) {
  device_tokens<X> dx(x, 8 * gap);
  device_results<Y> y(x.rows, n, gap);
  REQUIRE(cuda::gemv(w.view(), dx.view(), y.view(), nullptr) == cudaSuccess);
  return y.values();
}

}  // namespace

TEMPLATE_TEST_CASE("cuda::gemv: sums that fit a float come out exactly, in any order of the threads", "[cuda][gemv]",
                   bf16, f16) {
  check_exact_sums(shapes, product<TestType>);
}

TEMPLATE_TEST_CASE("cuda::gemv: within the bound", "[cuda][gemv][accuracy]", bf16, f16) {
  splitmix random(2);
  for (const auto& bytes : {byte_range(80, 127), byte_range(100, 154), {0, 1, 2, 3}, {200, 220, 225}}) {
    CAPTURE(static_cast<int>(bytes.front()));
    for (const auto& [m, n, k, gap] : {product_shape{1, 20, 2080, 1}, product_shape{8, 33, 800, 0}}) {
      device_weights w(n, k, 0, gap);
      fill(w.host, n, k, bytes, random);
      tokens x(m, k);
      x.fill([&](auto, auto) {
        const auto significand = static_cast<float>(random.between(-255, 255));
        return std::ldexp(significand, random.in(-14, 0));
      });
      const exact_product exact(w.host, n, x);
      REQUIRE(exact.ok);
      CHECK(outside_bound(product<TestType>(w, x, n), exact, k) == 0);
    }
  }
}

TEMPLATE_TEST_CASE("cuda::gemv: every scale byte with every code", "[cuda][gemv][special]", bf16, f16) {
  check_every_scale(3, product<TestType>);
}

TEMPLATE_TEST_CASE("cuda::gemv: a NaN scale after a row's end does not count", "[cuda][gemv][special]", bf16, f16) {
  check_scales_past_a_row(3, 18, product<TestType>);
}

TEMPLATE_TEST_CASE("cuda::gemv: NaN and infinity stay with their token", "[cuda][gemv][special]", bf16, f16) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const float odd : {infinity, -infinity, std::nanf("")}) {
    splitmix random(4);
    device_weights w(20, 320);
    fill(w.host, 20, 320, byte_range(110, 130), random);
    tokens x(5, 320);
    x.fill([&](auto, auto) { return static_cast<float>(random.between(1, 100)); });
    x.at(3, 77) = odd;
    const exact_product exact(w.host, 20, x);
    const std::vector<float> y = product<TestType>(w, x, 20);
    std::int64_t wrong = 0;
    for (std::size_t i = 0; i < y.size(); ++i) wrong += kind_of(y[i]) != kind_of(exact.sum[i]);
    CHECK(wrong == 0);
  }
}

TEST_CASE("cuda::gemv: results rounded once to bf16 and f16", "[cuda][gemv]") {
  splitmix random(5);
  device_weights w(21, 96);
  fill(w.host, 21, 96, byte_range(117, 127), random);
  tokens x(3, 96);
  x.fill([&](auto, auto) { return static_cast<float>(random.between(-2, 2)); });
  const std::vector<float> y = product<bf16>(w, x, 21), in_bf16 = product<bf16, bf16>(w, x, 21),
                           in_f16 = product<f16, f16>(w, x, 21);
  for (std::size_t i = 0; i < y.size(); ++i) {
    CHECK(in_bf16[i] == decode(encode_bf16(y[i])));
    CHECK(in_f16[i] == decode(encode_f16(y[i])));
  }
}

TEST_CASE("cuda::gemv: same bits for any number of tokens and any order of the threads", "[cuda][gemv]") {
  splitmix random(6);
  device_weights w(33, 1120);
  fill(w.host, 33, 1120, byte_range(110, 130), random);
  tokens x(8, 1120);
  x.fill([&](auto, auto) { return static_cast<float>(random.between(-9999, 9999)) * 0x1p-7f; });
  const std::vector<float> all = product<bf16>(w, x, 33);
  for (const std::int64_t m : {1, 2, 3, 7}) {
    tokens fewer(m, 1120);
    fewer.fill([&](std::int64_t r, std::int64_t k) { return x.at(r, k); });
    device_settings.seed = static_cast<std::uint64_t>(40 + m);
    CHECK(same_bits(product<bf16>(w, fewer, 33), {all.begin(), all.begin() + m * 33}));
  }
}

TEST_CASE("cuda::gemv: rows more than 2^32 bytes apart", "[cuda][gemv]") {
  constexpr std::int64_t k = 64, stride = (std::int64_t{1} << 32) + 48;
  const std::size_t bytes = static_cast<std::size_t>(stride + k / 2);
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto* const codes = static_cast<std::uint8_t*>(memory);
  for (std::int64_t r = 0; r < 2; ++r)
    for (std::int64_t i = 0; i < k / 2; ++i) codes[r * stride + i] = r == 0 ? 0x22 : 0x44;  // 1 and 2
  for (std::int64_t r = 0; r < 2; ++r)
    cuda::emulator::device_memory.add(reinterpret_cast<std::byte*>(codes + r * stride), k / 2, true, "codes");
  const device_array<std::uint8_t> scales(std::vector<std::uint8_t>(4, 127));
  const device_array<bf16> x(std::vector<bf16>(k, encode_bf16(1.0f)));
  device_array<float> y(2);
  CHECK(cuda::gemv(const_mx_view<>{codes, scales.data(), 2, k, stride, 2}, dense_view<const bf16>{x.data(), 1, k, k},
                   dense_view<float>{y.data(), 1, 2, 2}, nullptr) == cudaSuccess);
  CHECK(y.host() == std::vector<float>{64.0f, 128.0f});
  for (std::int64_t r = 0; r < 2; ++r)
    cuda::emulator::device_memory.remove(reinterpret_cast<std::byte*>(codes + r * stride));
  munmap(memory, bytes);
}

TEST_CASE("cuda::gemv: what is refused, before anything is written", "[cuda][gemv][bad_input]") {
  device_weights w(4, 64, 16);
  splitmix random(7);
  fill(w.host, 4, 64, {127}, random);
  tokens ones(8, 64);
  ones.fill([](auto, auto) { return 1.0f; });
  const device_tokens<bf16> tokens_of(ones, 0);
  device_results<float> out(8, 4);
  const const_mx_view<> good_w = w.view();
  const dense_view<const bf16> good_x = tokens_of.view();
  const dense_view<float> good_y = out.view();
  const std::int64_t large = std::int64_t{1} << 31;

  const auto refuses = [&](const char* sentence, auto&& change) {
    auto changed_w = good_w;
    auto changed_x = good_x;
    auto changed_y = good_y;
    change(changed_w, changed_x, changed_y);
    CHECK(message(cuda::check_product(changed_w, changed_x, changed_y, cuda::gemv_tokens)).view() == sentence);
    CHECK(cuda::gemv(changed_w, changed_x, changed_y, nullptr) == cudaErrorInvalidValue);
    CHECK(out.untouched());
  };
  refuses("w.codes is null, expected memory for 176 elements", [](auto& a, auto&, auto&) { a.codes = nullptr; });
  refuses("w.scales is null, expected memory for 8 elements", [](auto& a, auto&, auto&) { a.scales = nullptr; });
  refuses("w.codes is 8 bytes past a multiple of 16: align it", [](auto& a, auto&, auto&) { a.codes += 8; });
  refuses("w.scales is 2 bytes past a multiple of 4: align it", [](auto& a, auto&, auto&) { a.scales += 2; });
  refuses("w.code_stride is 8 bytes past a multiple of 16: align it",
          [](auto& a, auto&, auto&) { a.code_stride += 8; });
  refuses("w.cols is 65, expected a multiple of 32: pad the rows, or leave this tensor as it is",
          [](auto& a, auto&, auto&) { a.cols = 65; });
  refuses("w.rows is 0, expected 1", [](auto& a, auto&, auto&) { a.rows = 0; });
  refuses("w.rows is -1, expected 0 or more", [](auto& a, auto&, auto&) { a.rows = -1; });
  refuses("w.cols is 0, expected 1", [](auto& a, auto&, auto&) { a.cols = 0; });
  refuses("w.rows is 2147483648, expected at most 2147483647", [&](auto& a, auto&, auto&) { a.rows = large; });
  refuses("w.cols is 2147483648, expected at most 2147483647", [&](auto& a, auto&, auto&) {
    a.cols = large;
    a.code_stride = a.scale_stride = large;
  });
  refuses("x.data is null, expected memory for 512 elements", [](auto&, auto& x, auto&) { x.data = nullptr; });
  refuses("x.data is 2 bytes past a multiple of 16: align it", [](auto&, auto& x, auto&) { x.data += 1; });
  refuses("x.stride in bytes is 8 bytes past a multiple of 16: align it", [](auto&, auto& x, auto&) { x.stride += 4; });
  refuses("x.rows is 0, expected 1", [](auto&, auto& x, auto&) { x.rows = 0; });
  refuses("x.rows is 9, expected at most 8", [](auto&, auto& x, auto&) { x.rows = 9; });
  refuses("x.cols is 32, expected 64", [](auto&, auto& x, auto&) { x.cols = 32; });
  refuses("y.rows is 7, expected 8", [](auto&, auto&, auto& y) { y.rows = 7; });
  refuses("y.cols is 3, expected 4", [](auto&, auto&, auto& y) { y.cols = 3; });
  refuses("y.data is 1 bytes past a multiple of 4: align it", [](auto&, auto&, auto& y) {
    y.data = reinterpret_cast<float*>(reinterpret_cast<std::uintptr_t>(y.data) + 1);
  });
  refuses("y overlaps an input: pass separate memory",
          [](auto&, auto& x, auto& y) { y.data = reinterpret_cast<float*>(const_cast<bf16*>(x.data)); });
}
