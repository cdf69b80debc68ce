// tests/kernel.quantize_fp8.test.cpp -- the FP8 kernel gives the plain loop's bytes: every code, recipe, scale.
// SPDX-License-Identifier: Apache-2.0
//
// Built once for each instruction set; the lower paths of a set are tried inside. That a weight is bf16(w * scale) is
// shown here once more with doubles, in which the product is exact.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "mxfp4/kernel/quantize_fp8.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "support/arches.hpp"
#include "support/backward_executor.hpp"
#include "support/matrix.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;

/// Every kind of float, as a block scale.
std::vector<float> all_kinds_of_scales() {
  std::vector<float> scales = {0.0f,     -0.0f,     1.0f,    -1.0f,     0x1p-149f, 0x1.8p-130f, 0x1p-126f,
                               -0x1p-3f, 0x1p-133f, 0x1p99f, 0x1.4p99f, 0x1p101f,  0x1p118f,    0x1.fffffep127f};
  scales.insert(scales.end(), {test::as_float(0x7F800000u), test::as_float(0xFF800000u), test::as_float(0x7FC00000u),
                               test::as_float(0xFFC00001u), test::as_float(0x7F800001u)});
  test::splitmix random(7);
  for (unsigned exponent = 0; exponent < 256; ++exponent)
    for (int i = 0; i < 3; ++i) scales.push_back(test::as_float((random.bits() & 0x807FFFFFu) | exponent << 23));
  return scales;
}

/// x rounded to nearest even: 8 significant bits, normal from 2^-126 on. Overflow is infinity.
double round_to_bf16(double x) {
  if (x == 0.0 || !std::isfinite(x)) return x;
  const int ulp = std::max(std::ilogb(x), -126) - 7;
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(x, -ulp)), ulp);
  return std::abs(rounded) < 0x1p128 ? rounded : std::copysign(std::numeric_limits<double>::infinity(), x);
}

struct fp8_matrix {
  std::int64_t rows, cols, stride;
  std::vector<e4m3> w;
  std::vector<float> scales;
  [[nodiscard]] dense_view<const e4m3> weights() const { return {w.data() + 1, rows, cols, stride}; }
  [[nodiscard]] dense_view<const float> block_scales() const {
    const std::int64_t n = (cols + 127) / 128;
    return {scales.data(), (rows + 127) / 128, n, n};
  }
};

/// Each tile has its own kind of scale. Blocks differ in their largest magnitudes, one in sixteen has every code.
fp8_matrix make_matrix(std::int64_t rows, std::int64_t cols, std::int64_t stride, std::size_t first_scale) {
  fp8_matrix m{rows, cols, stride, std::vector<e4m3>(static_cast<std::size_t>(rows * stride + 1)), {}};
  test::splitmix random(11);
  for (std::size_t i = 0; i < m.w.size(); i += 32) {
    const int top = random.in(0, 15) == 0 ? 16 : random.in(0, 15), nan = top == 16 ? 128 : 127;
    for (std::size_t j = i; j < i + 32 && j < m.w.size(); ++j) {
      const unsigned code = static_cast<unsigned>(random.in(0, nan - 1)), sign = static_cast<unsigned>(random.in(0, 1));
      const unsigned largest = top < 15 ? 8u * static_cast<unsigned>(top) + 7u : 127u;
      m.w[j] = static_cast<e4m3>(sign << 7 | (code > largest ? code & largest : code));
    }
  }
  static const std::vector<float> kinds = all_kinds_of_scales();
  const std::int64_t tiles = (rows + 127) / 128 * ((cols + 127) / 128);
  for (std::int64_t t = 0; t < tiles; ++t)
    m.scales.push_back(kinds[(first_scale + static_cast<std::size_t>(t)) % kinds.size()]);
  return m;
}

/// Bytes of an output in one buffer, so that two of them compare.
template <class Layout>
struct output {
  std::vector<std::uint8_t> bytes;
  mx_view<Layout> view;

  output(std::int64_t rows, std::int64_t cols) {
    const mx_bytes need = *bytes_needed<Layout>(rows, cols);
    bytes.assign(static_cast<std::size_t>(need.codes + need.scales), test::poison);
    const std::span all(bytes);
    if constexpr (Layout::interleaved) view = *make_ggml_view(all, rows, cols);
    else {
      const auto codes = static_cast<std::size_t>(need.codes);
      view = *make_view<Layout>(all.first(codes), all.subspan(codes), rows, cols);
    }
  }
};

template <class Recipe, class Arch, class Layout>
void check_matrix(const fp8_matrix& m) {
  CAPTURE(Recipe::name, Layout::name, m.rows, m.cols);
  output<Layout> expected(m.rows, m.cols), got(m.rows, m.cols);
  REQUIRE(reference::quantize_fp8<Recipe>(m.weights(), m.block_scales(), expected.view).ok());
  test::backward_executor backward;
  REQUIRE(kernel::quantize_fp8<Recipe, Arch>(m.weights(), m.block_scales(), got.view,
                                             {.nonfinite = on_nonfinite::encode, .executor = backward})
              .ok());
  CHECK(got.bytes == expected.bytes);
  CHECK((backward.tasks > 0) == (m.rows > 0 && m.cols > 0));
}

/// Elements beside the rows keep their bits.
template <class Arch>
void check_widened(const fp8_matrix& m) {
  CAPTURE(m.rows, m.cols);
  const std::int64_t stride = m.cols + 3;
  std::vector<bf16> expected(static_cast<std::size_t>(m.rows * stride), bf16{0xA5A5}), got = expected;
  for (std::int64_t r = 0; r < m.rows; ++r)
    for (std::int64_t c = 0; c < m.cols; ++c)
      expected[static_cast<std::size_t>(r * stride + c)] =
          decode_scaled(m.weights().row(r)[c], m.block_scales().row(r / 128)[c / 128]);
  test::backward_executor backward;
  REQUIRE(kernel::widen_fp8<Arch>(m.weights(), m.block_scales(), {got.data(), m.rows, m.cols, stride},
                                  {.executor = backward})
              .ok());
  CHECK(got == expected);
  std::fill(got.begin(), got.end(), bf16{0xA5A5});
  REQUIRE(reference::widen_fp8(m.weights(), m.block_scales(), {got.data(), m.rows, m.cols, stride}).ok());
  CHECK(got == expected);
}

}  // namespace

TEST_CASE("fp8_words: all codes under every kind of scale are decode_scaled, which is bf16(w * scale)", "[fp8]") {
  std::int64_t wrong_table = 0, wrong_value = 0;
  for (const float scale : all_kinds_of_scales()) {
    const simd::fp8_words table = simd::make_fp8_words(scale);
    for (unsigned c = 0; c < 256; ++c) {
      const auto value = static_cast<std::uint16_t>(decode_scaled(static_cast<e4m3>(c), scale));
      wrong_table += table.word[c] != value;
      const unsigned magnitude = c & 0x7Fu;
      const double number = magnitude < 8 ? std::ldexp(magnitude, -9)
                                          : std::ldexp(8 + (magnitude & 7u), static_cast<int>(magnitude >> 3) - 10);
      const double w = magnitude == 0x7F ? std::numeric_limits<double>::quiet_NaN() : c < 128 ? number : -number;
      const double product = w * static_cast<double>(scale);  // exact
      const double expected = round_to_bf16(static_cast<double>(static_cast<float>(product)));
      if (std::isnan(expected)) wrong_value += value != 0x7FC0;
      else wrong_value += test::as_bits(static_cast<float>(expected)) != std::uint32_t{value} << 16;
    }
  }
  CHECK(wrong_table == 0);
  CHECK(wrong_value == 0);
}

TEST_CASE("kernel::quantize_fp8: every code under every kind of scale", "[kernel][fp8]") {
  const fp8_matrix m = make_matrix(28 * 128, 28 * 128, 28 * 128 + 5, 0);  // 784 tiles, 787 kinds
  test::for_each_arch([&]<class Arch>(const char* name) {
    CAPTURE(name);
    check_matrix<recipe::compressed_tensors, Arch, layout::compressed_tensors>(m);
  });
}

TEST_CASE("kernel::widen_fp8: every code under every kind of scale; shapes", "[kernel][fp8]") {
  const fp8_matrix m = make_matrix(28 * 128, 28 * 128, 28 * 128 + 5, 0);
  test::for_each_arch([&]<class Arch>(const char* name) {
    CAPTURE(name);
    check_widened<Arch>(m);
  });
  for (const auto& [rows, cols] : {std::pair{1, 32},
                                   {129, 160},
                                   {5, 2048 + 96},
                                   {3, 45},
                                   {2, 31},
                                   {2, 2048 + 5},
                                   {2, 2048 - 5},
                                   {2, 4096},
                                   {0, 64},
                                   {64, 0}})
    check_widened<simd::native_arch>(make_matrix(rows, cols, cols + 3, 14));
}

TEST_CASE("widen_fp8: refused input leaves the output as it was", "[kernel][fp8]") {
  const std::vector<e4m3> w(130 * 160, e4m3{0x38});
  const std::vector<float> scales(4, 1.0f);
  std::vector<bf16> out(130 * 160, bf16{0xA5A5});
  const dense_view<const e4m3> x{w.data(), 130, 160, 160};
  const dense_view<const float> s{scales.data(), 2, 2, 2};
  const dense_view<bf16> to{out.data(), 130, 160, 160};
  const auto refuse = [&](const dense_view<const e4m3>& a, const dense_view<const float>& b) {
    const status got = kernel::widen_fp8(a, b, to);
    CHECK(got.code == reference::widen_fp8(a, b, to).code);
    CHECK(out == std::vector<bf16>(out.size(), bf16{0xA5A5}));
    return got;
  };
  CHECK(refuse({nullptr, 130, 160, 160}, s).code == errc::null_pointer);
  CHECK(refuse({w.data(), 130, 128, 160}, s).code == errc::shape_mismatch);
  CHECK(refuse(x, {scales.data(), 1, 2, 2}).value == 1);
  CHECK(refuse({reinterpret_cast<const e4m3*>(out.data()), 130, 160, 160}, s).code == errc::overlap);
  CHECK(refuse(x, {reinterpret_cast<const float*>(out.data()), 2, 2, 2}).code == errc::overlap);
}

TEST_CASE("kernel::quantize_fp8: every recipe", "[kernel][fp8]") {
  const fp8_matrix m = make_matrix(128 + 3, 28 * 128, 28 * 128, 5);
  for (int id = 0; id < recipe_count; ++id)
    visit_recipe(static_cast<recipe_id>(id),
                 [&]<class R>() { check_matrix<R, simd::native_arch, layout::compressed_tensors>(m); });
}

TEST_CASE("kernel::quantize_fp8: shapes, layouts, parts of tiles", "[kernel][fp8]") {
  for (const auto& [rows, cols] :
       {std::pair{1, 32}, {129, 160}, {5, 2048 + 96}, {257, 64}, {2, 4096 + 32}, {0, 64}, {64, 0}}) {
    const fp8_matrix m = make_matrix(rows, cols, cols + 3, 14);
    check_matrix<recipe::ocp, simd::native_arch, layout::ggml>(m);
    check_matrix<recipe::ocp, simd::native_arch, layout::swizzled_128x4>(m);
  }
}

TEST_CASE("kernel::quantize_fp8: no read past the last element, no write past the last byte", "[kernel][fp8]") {
  const test::page_end<e4m3> x(2 * 32);
  const test::page_end<float> scale(1);
  *scale.data() = 1.0f;
  const test::page_end<std::uint8_t> codes(32), scales(2);
  const mx_view<> out{codes.data(), scales.data(), 2, 32, 16, 1};
  CHECK(kernel::quantize_fp8<>({x.data(), 2, 32, 32}, {scale.data(), 1, 1, 1}, out).ok());
}

TEST_CASE("kernel::quantize_fp8: refused input leaves the output as it was", "[kernel][fp8]") {
  std::vector<e4m3> w(130 * 160, e4m3{0x38});
  std::vector<float> scales(4, 1.0f);
  output<layout::compressed_tensors> out(130, 160);
  const auto refuse = [&](const dense_view<const e4m3>& x, const dense_view<const float>& s) {
    const status got = kernel::quantize_fp8<>(x, s, out.view, {.nonfinite = on_nonfinite::refuse});
    CHECK(out.bytes == std::vector<std::uint8_t>(out.bytes.size(), test::poison));
    return got;
  };
  const dense_view<const e4m3> x{w.data(), 130, 160, 160};
  const dense_view<const float> s{scales.data(), 2, 2, 2};
  CHECK(refuse({nullptr, 130, 160, 160}, s).code == errc::null_pointer);
  CHECK(refuse({w.data(), 130, 128, 160}, s).code == errc::shape_mismatch);
  CHECK(refuse(x, {scales.data(), 1, 2, 2}).value == 1);
  CHECK(refuse(x, {scales.data(), 2, 3, 3}).value == 3);
  CHECK(refuse({reinterpret_cast<const e4m3*>(out.bytes.data()), 130, 160, 160}, s).code == errc::overlap);
  CHECK(refuse(x, {reinterpret_cast<const float*>(out.bytes.data()), 2, 2, 2}).code == errc::overlap);
  w[129 * 160 + 150] = e4m3{0xFF};
  CHECK((refuse(x, s).code == errc::nonfinite && refuse(x, s).value == 129 * 160 + 150));
  w[129 * 160 + 3] = e4m3{0x7F};  // before it in the row, but in another tile
  CHECK(refuse(x, s).value == 129 * 160 + 3);
  w[128 * 160 + 159] = e4m3{0x7F};  // in an earlier row
  CHECK(refuse(x, s).value == 128 * 160 + 159);
  scales[2] = std::numeric_limits<float>::infinity();
  CHECK(refuse(x, s).value == 128 * 160);
}

TEST_CASE("kernel::quantize_fp8: the first of several NaN, in row-major order", "[kernel][fp8]") {
  constexpr std::int64_t rows = 140, cols = 4096 + 32;  // three parts a band
  std::vector<e4m3> w(rows * cols, e4m3{0x38});
  const std::vector<float> scales(2 * 33, 1.0f);
  output<layout::compressed_tensors> out(rows, cols);
  const auto first = [&] {
    return kernel::quantize_fp8<>({w.data(), rows, cols, cols}, {scales.data(), 2, 33, 33}, out.view,
                                  {.nonfinite = on_nonfinite::refuse})
        .value;
  };
  for (const std::int64_t at :
       {135 * cols, 50 * cols + 7, 49 * cols + 4100, 48 * cols + 2500, 48 * cols + 2047, std::int64_t{31}}) {
    w[static_cast<std::size_t>(at)] = e4m3{0xFF};
    CHECK(first() == at);
  }
}
