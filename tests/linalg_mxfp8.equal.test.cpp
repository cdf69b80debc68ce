// tests/linalg_mxfp8.equal.test.cpp -- MXFP8 activations: the bytes of the definition on every architecture; products
// equal those of the numbers that the elements mean.
//
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "mxfp4/linalg/mxfp8.hpp"
#include "support/arches.hpp"
#include "support/backward_executor.hpp"
#include "support/product.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using ct = layout::compressed_tensors;
constexpr mxfp8_scaling scalings[] = {mxfp8_scaling::floor, mxfp8_scaling::rceil};

/// M x K in MXFP8 with `gap` bytes between rows, poisoned.
struct mxfp8_memory {
  mxfp8_memory(std::int64_t m, std::int64_t k, std::int64_t between)
      : rows(m),
        cols(k),
        gap(between),
        elements(static_cast<std::size_t>(m * (k + between)), poison),
        scales(static_cast<std::size_t>(m * (k / 32 + between)), poison) {}
  mxfp8_view view() { return {elements.data(), scales.data(), rows, cols, cols + gap, cols / 32 + gap}; }
  /// The numbers that the bytes mean.
  tokens numbers() {
    tokens x(rows, cols);
    return x.fill([this](std::int64_t m, std::int64_t k) {
      const std::uint8_t element = elements[static_cast<std::size_t>(m * (cols + gap) + k)];
      const int byte = scales[static_cast<std::size_t>(m * (cols / 32 + gap) + k / 32)];
      const double value = e4m3_values()[element & 0x7Fu];
      if (byte == 255 || (element & 0x7Fu) == 0x7Fu) return std::nanf("");
      return static_cast<float>(std::ldexp((element & 0x80u) != 0 ? -value : value, byte - 127));
    });
  }

  std::int64_t rows, cols, gap;
  std::vector<std::uint8_t> elements, scales;
};

template <class Arch, class W, class X>
std::vector<float> product(const W& w, std::int64_t n, const X& x, std::int64_t m, bool accumulate) {
  std::vector<float> y(static_cast<std::size_t>(m * n), 3.0f);
  REQUIRE(gemm<dialect::ocp, Arch>(w, x, dense_view<float>{y.data(), m, n, n}, {accumulate, {}}).ok());
  return y;
}

bool is(const status& s, errc code, std::string_view what, std::int64_t value, std::int64_t expected) {
  const std::string argument(s.argument);
  return s.code == code && (argument.empty() ? "" : argument + ".") + s.what == what && s.value == value &&
         s.expected == expected;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("mxfp8: quantize_activations has the bytes of encode_mxfp8", "[mxfp8][equal]", arches) {
  splitmix random(51);
  constexpr std::int64_t m = 18, k = 96, gap = 5;
  const auto check_type = [&]<class T>(T) {
    std::int64_t wrong = 0;
    for (int exponent = 0; exponent < 256; ++exponent)
      for (const mxfp8_scaling scaling : scalings) {
        std::vector<T> x(static_cast<std::size_t>(m * (k + gap)));
        for (T& v : x) v = encode<T>(random.with_exponent(std::max(exponent - 20, 0), exponent));
        mxfp8_memory out(m, k, gap);
        backward_executor backwards;
        REQUIRE(quantize_activations<TestType>(dense_view<const T>{x.data(), m, k, k + gap}, out.view(), scaling,
                                               {.executor = backwards})
                    .ok());
        CHECK(backwards.tasks == 2);
        for (std::int64_t r = 0; r < m; ++r) {
          for (std::int64_t b = 0; b < k / 32; ++b) {
            T block[32];
            for (std::int64_t i = 0; i < 32; ++i) block[i] = x[static_cast<std::size_t>(r * (k + gap) + b * 32 + i)];
            const mxfp8_block expected = encode_mxfp8(block, scaling);
            wrong += out.scales[static_cast<std::size_t>(r * (k / 32 + gap) + b)] !=
                     static_cast<std::uint8_t>(expected.scale);
            for (std::int64_t i = 0; i < 32; ++i)
              wrong += out.elements[static_cast<std::size_t>(r * (k + gap) + b * 32 + i)] !=
                       static_cast<std::uint8_t>(expected.element[i]);
          }
          for (std::int64_t i = 0; i < gap && r + 1 < m; ++i)
            wrong += out.elements[static_cast<std::size_t>(r * (k + gap) + k + i)] != poison;
        }
      }
    CHECK(wrong == 0);
  };
  check_type(float{});
  check_type(bf16{});
  check_type(f16{});
}

TEMPLATE_LIST_TEST_CASE("mxfp8: products are those of the numbers, bit for bit", "[mxfp8][equal]", arches) {
  splitmix random(52);
  for (const std::int64_t m : {1, 2, 19})
    for (const std::int64_t k : {32, 8224})
      for (const bool accumulate : {false, true}) {
        const std::int64_t n = 21;
        CAPTURE(m, k, accumulate);
        mx_memory<ct> w(n, k);
        fill(w, n, k, byte_range(110, 130), random);
        mxfp8_memory x(m, k, 3);
        for (std::uint8_t& e : x.elements) e = random.byte() % 127 | (random.byte() & 0x80u);  // no NaN
        for (std::uint8_t& s : x.scales) s = static_cast<std::uint8_t>(random.in(random.in(0, 9) == 0 ? 0 : 100, 140));
        const tokens numbers = x.numbers();
        const tiles_of tiles(w, n, k);
        CHECK(same_bits(product<TestType>(w.view(), n, x.view(), m, accumulate),
                        product<TestType>(w.view(), n, numbers.view(), m, accumulate)));
        CHECK(same_bits(product<TestType>(tiles.view(), n, x.view(), m, accumulate),
                        product<TestType>(tiles.view(), n, numbers.view(), m, accumulate)));
      }
}

TEMPLATE_LIST_TEST_CASE("mxfp8: both ends of the range, and NaN in one token alone", "[mxfp8][special]", arches) {
  for (const std::int64_t m : {1, 5}) {
    mx_memory<ct> w(17, 64);
    for (std::int64_t n = 0; n < 17; ++n)
      for (std::int64_t k = 0; k < 64; ++k) {
        w.set_code(n, k, k == n ? 2 : 0);  // row n picks element n, times 1
        w.scale(n, k / 32) = 127;
      }
    mxfp8_memory x(m, 64, 0);
    for (std::uint8_t& e : x.elements) e = 0x38;  // 1
    for (std::uint8_t& s : x.scales) s = 127;
    x.elements[3] = 0x01;
    x.elements[4] = 0xFE;
    x.scales[0] = 0;
    const std::vector<float> low = product<TestType>(w.view(), 17, x.view(), m, false);
    CHECK((low[0] == 0x1p-127f && low[3] == 0x1p-136f && low[4] == -448.0f * 0x1p-127f));
    x.scales[0] = 246;
    CHECK(product<TestType>(w.view(), 17, x.view(), m, false)[4] == -0x1.cp127f);
    for (const bool by_scale : {true, false}) {
      mxfp8_memory bad = x;
      bad.scales[0] = 127;
      if (by_scale) bad.scales[static_cast<std::size_t>((m - 1) * 2 + 1)] = 255;
      else bad.elements[static_cast<std::size_t>((m - 1) * 64 + 40)] = 0xFF;
      const tiles_of tiles(w, 17, 64);
      for (const auto& y : {product<TestType>(w.view(), 17, bad.view(), m, false),
                            product<TestType>(tiles.view(), 17, bad.view(), m, false)})
        for (std::size_t i = 0; i < y.size(); ++i)
          if (std::isnan(y[i]) != (i >= static_cast<std::size_t>((m - 1) * 17))) FAIL("output " << i << ": " << y[i]);
    }
  }
}

TEST_CASE("mxfp8: NaN and infinity in X make that token NaN, whatever the type and scaling", "[mxfp8][special]") {
  mx_memory<ct> w(3, 64);
  for (std::int64_t n = 0; n < 3; ++n) w.scale(n, 0) = w.scale(n, 1) = 127;
  for (const mxfp8_scaling scaling : scalings)
    for (const float odd : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
      std::vector<float> x(4 * 64, 1.0f);
      x[2 * 64 + 33] = odd;
      const result<mxfp8_activations> q = quantize_activations(dense_view<const float>{x.data(), 4, 64, 64}, scaling);
      REQUIRE(q);
      std::vector<float> y(12);
      REQUIRE(gemm(*pack(w.view()), *q, dense_view<float>{y.data(), 4, 3, 3}).ok());
      for (std::size_t i = 0; i < 12; ++i) CHECK(std::isnan(y[i]) == (i / 3 == 2));
    }
}

TEST_CASE("mxfp8: bad arguments are named and nothing is written", "[mxfp8][bad_input]") {
  const std::uint8_t codes[2 * 32]{}, scales[4]{};
  float y[8] = {77, 77, 77, 77, 77, 77, 77, 77};
  const const_mx_view<> w{codes, scales, 2, 64, 32, 2};
  mxfp8_memory memory(3, 64, 0);
  const auto with = [&](auto change) {
    mxfp8_view x = memory.view();
    dense_view<float> out{y, 3, 2, 2};
    change(x, out);
    return gemm(w, x, out);
  };
  CHECK(is(with([](auto& x, auto&) { x.cols = 48; }), errc::not_blocks, "x.cols", 48, 0));
  CHECK(is(with([](auto& x, auto&) { x.cols = 32; }), errc::shape_mismatch, "x.cols", 32, 64));
  CHECK(is(with([](auto& x, auto&) { x.rows = -1; }), errc::negative_size, "x.rows", -1, 0));
  CHECK(is(with([](auto& x, auto&) { x.elements = nullptr; }), errc::null_pointer, "x.elements", 0, 192));
  CHECK(is(with([](auto& x, auto&) { x.scales = nullptr; }), errc::null_pointer, "x.scales", 0, 6));
  CHECK(is(with([](auto& x, auto&) { x.element_stride = 63; }), errc::stride_too_small, "x.element_stride", 63, 64));
  CHECK(is(with([](auto& x, auto&) { x.scale_stride = 1; }), errc::stride_too_small, "x.scale_stride", 1, 2));
  CHECK(is(with([](auto& x, auto&) { x.element_stride = std::int64_t{1} << 62; }), errc::size_overflow,
           "x.rows * element_stride", 3, 0));
  CHECK(is(with([](auto& x, auto&) { x.scale_stride = std::int64_t{1} << 62; }), errc::size_overflow,
           "x.rows * scale_stride", 3, 0));
  CHECK(is(with([](auto&, auto& out) { out.rows = 2; }), errc::shape_mismatch, "y.rows", 2, 3));
  CHECK(is(with([](auto&, auto& out) { out.stride = 1; }), errc::stride_too_small, "y.stride", 1, 2));
  CHECK(is(with([&](auto& x, auto&) { x.elements = reinterpret_cast<std::uint8_t*>(y) - 191; }), errc::overlap, "y", 0,
           0));
  CHECK(is(with([&](auto& x, auto&) { x.scales = reinterpret_cast<std::uint8_t*>(y + 5) + 3; }), errc::overlap, "y", 0,
           0));
  for (const float value : y) CHECK(value == 77.0f);

  const float x[3 * 64]{};
  const dense_view<const float> in{x, 3, 64, 64};
  CHECK(is(quantize_activations(dense_view<const float>{x, 3, 64, 60}, memory.view()), errc::stride_too_small,
           "x.stride", 60, 64));
  CHECK(is(quantize_activations(dense_view<const float>{nullptr, 3, 64, 64}, memory.view()), errc::null_pointer,
           "x.data", 0, 192));
  CHECK(is(quantize_activations(dense_view<const float>{x, 2, 64, 64}, memory.view()), errc::shape_mismatch, "out.rows",
           3, 2));
  CHECK(is(quantize_activations(dense_view<const float>{x, 3, 32, 64}, memory.view()), errc::shape_mismatch, "out.cols",
           64, 32));
  mxfp8_view same = memory.view();
  same.scales = same.elements + 191;
  CHECK(is(quantize_activations(in, same), errc::overlap, "out", 0, 0));
  CHECK(is(quantize_activations(dense_view<const float>{x, 3, 48, 64}, mxfp8_scaling::floor).error(), errc::not_blocks,
           "mxfp8_activations.cols", 48, 0));
  CHECK(is(mxfp8_activations::create(std::int64_t{1} << 40, std::int64_t{1} << 40).error(), errc::size_overflow,
           "mxfp8_activations.rows * cols", std::int64_t{1} << 40, 0));
  for (const std::uint8_t e : memory.elements) REQUIRE(e == poison);
}

TEMPLATE_LIST_TEST_CASE("mxfp8: no byte is read or written past the last", "[mxfp8][guard_page]", arches) {
  for (const std::int64_t m : {1, 3})
    for (const std::int64_t k : {32, 160}) {
      const page_end<std::uint8_t> elements(m * k), scales(m * k / 32);
      const page_end<float> in(m * k), y(m * 5);
      for (std::int64_t i = 0; i < m * k; ++i) in.data()[i] = 1.0f;
      const mxfp8_view x{elements.data(), scales.data(), m, k, k, k / 32};
      REQUIRE(quantize_activations<TestType>(dense_view<const float>{in.data(), m, k, k}, x).ok());
      mx_memory<ct> w(5, k);
      for (std::int64_t n = 0; n < 5; ++n)
        for (std::int64_t i = 0; i < k; ++i) {
          w.set_code(n, i, 2);
          w.scale(n, i / 32) = 127;
        }
      REQUIRE(gemm<dialect::ocp, TestType>(w.view(), x, dense_view<float>{y.data(), m, 5, 5}).ok());
      CHECK(y.data()[m * 5 - 1] == static_cast<float>(k));
      REQUIRE(gemm<dialect::ocp, TestType>(tiles_of(w, 5, k).view(), x, dense_view<float>{y.data(), m, 5, 5}).ok());
      CHECK(y.data()[0] == static_cast<float>(k));
    }
}

TEST_CASE("mxfp8: owned activations, reuse and moves", "[mxfp8]") {
  result<mxfp8_activations> made = mxfp8_activations::create(1, 64);
  REQUIRE(made);
  mxfp8_activations x = *std::move(made);
  std::vector<float> in(64, 2.0f), y(3);
  REQUIRE(quantize_activations(dense_view<const float>{in.data(), 1, 64, 64}, x.view()).ok());
  CHECK((x.view().at(0, 63) == 2.0f && x.rows() == 1 && x.cols() == 64));
  mx_memory<ct> w(3, 64);
  for (std::int64_t n = 0; n < 3; ++n)
    for (std::int64_t k = 0; k < 64; ++k) {
      w.set_code(n, k, 2);
      w.scale(n, k / 32) = 127;
    }
  REQUIRE(gemv(w.view(), x, y).ok());
  CHECK(y == std::vector<float>(3, 128.0f));
  REQUIRE(gemv(*pack(w.view()), x, y, {true, {}}).ok());
  CHECK(y == std::vector<float>(3, 256.0f));
  mxfp8_activations taken = std::move(x);
  CHECK((x.rows() == 0 && taken.view().at(0, 0) == 2.0f));  // NOLINT(bugprone-use-after-move)
  CHECK(is(gemv(w.view(), x, y), errc::shape_mismatch, "x.cols", 0, 64));
  x = std::move(taken);
  CHECK(x.view().at(0, 0) == 2.0f);
}
