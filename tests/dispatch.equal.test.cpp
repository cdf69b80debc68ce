// tests/dispatch.equal.test.cpp -- mxfp4::dispatch gives the plain loop's bits on any instruction set.
// SPDX-License-Identifier: Apache-2.0
//
// Compiled for any CPU and run once for each value of MXFP4_ISA (dispatch.cmake); dispatch.f32.test.cpp has the sums of
// floats, which are equal for one instruction set only.
#include <algorithm>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "mxfp4/dispatch.hpp"
#include "mxfp4/reference/int8.hpp"
#include "support/backward_executor.hpp"
#include "support/matrix.hpp"
#include "support/product.hpp"
#include "support/random.hpp"
#include "support/statistics.hpp"

namespace {

using namespace mxfp4;
using test::backward_executor;
using test::mx_memory;

#define SKIP_WITHOUT_ISA() \
  if (!dispatch::isa()) SKIP("MXFP4_ISA names an instruction set that is not there")

/// Blocks of every exponent, some with NaN, infinity or nothing but subnormals.
template <class T>
std::vector<T> numbers(std::int64_t count, std::uint64_t seed) {
  test::splitmix random(seed);
  std::vector<T> x(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t block = i / 32;
    const int exponent = static_cast<int>(block * 7 % 255), low = exponent > 4 ? exponent - 4 : 0;
    float v = random.with_exponent(low, exponent);
    if (block % 17 == 3 && i % 32 == 5) v = std::numeric_limits<float>::quiet_NaN();
    if (block % 19 == 4 && i % 32 == 9) v = -std::numeric_limits<float>::infinity();
    x[i] = encode<T>(v);
  }
  return x;
}

template <class T, class Layout>
void check_recipes(std::int64_t rows, std::int64_t cols) {
  const std::vector<T> x = numbers<T>(rows * cols, sizeof(T) + static_cast<std::uint64_t>(rows));
  const dense_view<const T> w{x.data(), rows, cols, cols};
  for (int id = 0; id < recipe_count; ++id) {
    const auto recipe = static_cast<recipe_id>(id);
    CAPTURE(recipe_name(recipe), Layout::name, sizeof(T));
    mx_memory<Layout> expected(rows, cols), got(rows, cols);
    REQUIRE(reference::quantize(recipe, w, expected.view()).ok());
    REQUIRE(dispatch::quantize(recipe, w, got.view()).ok());
    for (std::int64_t r = 0; r < rows; ++r) {
      bool same = true;
      for (std::int64_t c = 0; c < cols; ++c) same = same && got.code(r, c) == expected.code(r, c);
      for (std::int64_t b = 0; b < cols / 32; ++b) same = same && got.scale(r, b) == expected.scale(r, b);
      REQUIRE(same);
    }
    REQUIRE(got.only_its_own_bytes_were_written());
  }
}

/// All bytes that a layout's memory holds, in one order.
template <class Layout>
std::vector<unsigned> content(mx_memory<Layout>& m, std::int64_t rows, std::int64_t cols) {
  std::vector<unsigned> all;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) all.push_back(m.code(r, c));
    for (std::int64_t b = 0; b < cols / 32; ++b) all.push_back(m.scale(r, b));
  }
  return all;
}

template <class T>
bool same_elements(const std::vector<T>& a, const std::vector<T>& b) {
  return std::ranges::equal(a, b,
                            [](T x, T y) { return detail::float_bits(decode(x)) == detail::float_bits(decode(y)); });
}

}  // namespace

TEST_CASE("dispatch: the instruction set is the one asked for, else the best", "[dispatch]") {
  SKIP_WITHOUT_ISA();
  const auto names = dispatch::available_isas();
  REQUIRE(!names.empty());
  const char* const asked = std::getenv("MXFP4_ISA");
  const bool free = asked == nullptr || *asked == '\0';
  CHECK(*dispatch::isa() == std::string(free ? names.front() : asked));
}

TEST_CASE("dispatch::quantize: every recipe, type and layout", "[dispatch]") {
  SKIP_WITHOUT_ISA();
  check_recipes<float, layout::compressed_tensors>(3, 2080);
  check_recipes<bf16, layout::compressed_tensors>(3, 2080);
  check_recipes<f16, layout::compressed_tensors>(3, 2080);
  check_recipes<e4m3, layout::compressed_tensors>(3, 2080);
  check_recipes<float, layout::gpt_oss>(2, 288);
  check_recipes<bf16, layout::mlx>(2, 288);
  check_recipes<float, layout::ggml>(5, 1056);
  check_recipes<bf16, layout::ggml>(5, 1056);
  check_recipes<f16, layout::ggml>(5, 1056);
  check_recipes<e4m3, layout::ggml>(5, 1056);
}

TEMPLATE_TEST_CASE("dispatch::quantize_fp8: every recipe", "[dispatch]", layout::compressed_tensors, layout::gpt_oss) {
  SKIP_WITHOUT_ISA();
  constexpr std::int64_t rows = 130, cols = 160;
  test::splitmix random(9);
  std::vector<e4m3> x(rows * cols);
  for (e4m3& v : x) v = static_cast<e4m3>(random.byte());
  const std::vector<float> scales{0x1p-7f, 0.003f, 1.5e20f, 2e-39f};
  const dense_view<const e4m3> w{x.data(), rows, cols, cols};
  const dense_view<const float> s{scales.data(), 2, 2, 2};
  for (int id = 0; id < recipe_count; ++id) {
    const auto recipe = static_cast<recipe_id>(id);
    CAPTURE(recipe_name(recipe));
    mx_memory<TestType> expected(rows, cols), got(rows, cols);
    backward_executor backward;
    REQUIRE(reference::quantize_fp8(recipe, w, s, expected.view()).ok());
    REQUIRE(dispatch::quantize_fp8(recipe, w, s, got.view(), {.nonfinite = on_nonfinite::encode, .executor = backward})
                .ok());
    REQUIRE(content(got, rows, cols) == content(expected, rows, cols));
  }
}

TEST_CASE("dispatch::widen_fp8: the bits of the plain loop", "[dispatch]") {
  SKIP_WITHOUT_ISA();
  constexpr std::int64_t rows = 130, cols = 165;
  std::vector<e4m3> x(rows * cols);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<e4m3>(i % 256);
  const std::vector<float> scales{0x1p-7f, -0.003f, 1.5e38f, 2e-39f};
  const dense_view<const e4m3> w{x.data(), rows, cols, cols};
  const dense_view<const float> s{scales.data(), 2, 2, 2};
  std::vector<bf16> expected(x.size()), got(x.size());
  backward_executor backward;
  REQUIRE(reference::widen_fp8(w, s, {expected.data(), rows, cols, cols}).ok());
  REQUIRE(dispatch::widen_fp8(w, s, {got.data(), rows, cols, cols}, {.executor = backward}).ok());
  CHECK(got == expected);
  CHECK(backward.tasks == 2);
}

TEMPLATE_TEST_CASE("dispatch::measure_error: the counts of the plain loop, its sums nearly", "[dispatch]", float, bf16,
                   f16) {
  SKIP_WITHOUT_ISA();
  constexpr std::int64_t rows = 65, cols = 2080;
  const std::vector<TestType> x = numbers<TestType>(rows * cols, 8);
  const dense_view<const TestType> w{x.data(), rows, cols, cols};
  mx_memory<layout::compressed_tensors> q(rows, cols, 3);
  REQUIRE(reference::quantize(recipe_id::ocp, w, q.view()).ok());
  for (std::int64_t r = 0; r < rows; ++r) q.set_code(r, 7 * r, static_cast<unsigned>(r % 16));
  error_statistics expected, got;
  backward_executor backward;
  REQUIRE(reference::measure_error(w, q.view(), expected).ok());
  REQUIRE(dispatch::measure_error(w, q.view(), got, {.executor = backward}).ok());
  CHECK(backward.tasks == 2);
  CHECK(expected.weights == rows * cols);
  test::check_counts(got, expected);
  test::check_sums(got, expected);
}

TEST_CASE("dispatch::quantize_fp8_measured: the bytes and counts of the plain loops", "[dispatch]") {
  SKIP_WITHOUT_ISA();
  constexpr std::int64_t rows = 130, cols = 160;
  test::splitmix random(9);
  std::vector<e4m3> x(rows * cols);
  for (e4m3& v : x) v = static_cast<e4m3>(random.byte());
  const std::vector<float> scales{0x1p-7f, 0.003f, 1.5f, -0.2f};
  const dense_view<const e4m3> w{x.data(), rows, cols, cols};
  const dense_view<const float> s{scales.data(), 2, 2, 2};
  std::vector<bf16> widened(x.size());
  const dense_view<bf16> numbers{widened.data(), rows, cols, cols};
  REQUIRE(reference::widen_fp8(w, s, numbers).ok());
  for (int id = 0; id < recipe_count; ++id) {
    const auto recipe = static_cast<recipe_id>(id);
    CAPTURE(recipe_name(recipe));
    mx_memory<layout::compressed_tensors> expected(rows, cols), got(rows, cols);
    error_statistics want, sum;
    REQUIRE(reference::quantize_fp8(recipe, w, s, expected.view()).ok());
    REQUIRE(reference::measure_error(numbers, expected.view(), want).ok());
    backward_executor backward;
    REQUIRE(dispatch::quantize_fp8_measured(recipe, w, s, got.view(), sum,
                                            {.nonfinite = on_nonfinite::encode, .executor = backward})
                .ok());
    CHECK(backward.tasks == 1);
    CHECK(content(got, rows, cols) == content(expected, rows, cols));
    test::check_counts(sum, want);
    test::check_sums(sum, want);
  }
  mx_memory<layout::compressed_tensors> q(rows, cols);
  error_statistics sum;
  CHECK(dispatch::quantize_fp8_measured(static_cast<recipe_id>(250), w, s, q.view(), sum).code == errc::unknown_recipe);
  CHECK(dispatch::quantize_fp8_measured<recipe::mlx>(w, s, q.view(), sum, {.nonfinite = on_nonfinite::refuse}).code ==
        errc::nonfinite);
  CHECK(q.is_untouched());
  CHECK(sum.weights == 0);
}

TEST_CASE("dispatch: convert, unpack and encode_row are the header's own", "[dispatch]") {
  constexpr std::int64_t rows = 130, cols = 1056;
  test::splitmix random(12);
  mx_memory<layout::compressed_tensors> w(rows, cols), back(rows, cols), unpacked(rows, cols);
  mx_memory<layout::swizzled_128x4> tiles(rows, cols);
  w.fill_randomly(random);
  backward_executor backward;
  REQUIRE(dispatch::convert(w.view(), tiles.view(), {.executor = backward}).ok());
  REQUIRE(dispatch::convert(tiles.view(), back.view()).ok());
  CHECK(content(back, rows, cols) == content(w, rows, cols));
  CHECK(backward.tasks == 3);
  const float x[33] = {1.0f, 2.0f, 3.0f};
  std::uint8_t codes[32], scales[2];
  REQUIRE(dispatch::encode_row(recipe_id::ocp, x, 33, codes, scales).ok());
  CHECK((codes[0] == 0x64 && codes[1] == 0x07 && scales[0] == 126 && scales[1] == 0));
  SKIP_WITHOUT_ISA();
  const result<packed_matrix> packed = dispatch::pack(w.view());
  REQUIRE(packed);
  REQUIRE(dispatch::unpack(*packed, unpacked.view(), {.executor = backward}).ok());
  CHECK(content(unpacked, rows, cols) == content(w, rows, cols));
  CHECK(backward.tasks == 6);
}

TEMPLATE_TEST_CASE("dispatch::dequantize: every scale byte, dialect and layout", "[dispatch]", float, bf16, f16) {
  SKIP_WITHOUT_ISA();
  constexpr std::int64_t rows = 16, cols = 512;
  test::splitmix random(2);
  mx_memory<layout::compressed_tensors> apart(rows, cols);
  mx_memory<layout::ggml> blocks(rows, cols);
  apart.fill_randomly(random);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t b = 0; b < cols / 32; ++b) apart.scale(r, b) = static_cast<std::uint8_t>(16 * r + b);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) blocks.set_code(r, c, apart.code(r, c));
    for (std::int64_t b = 0; b < cols / 32; ++b) blocks.scale(r, b) = apart.scale(r, b);
  }
  for (int id = 0; id < dialect_count; ++id) {
    CAPTURE(id);
    std::vector<TestType> expected(rows * cols), got(expected.size());
    const dense_view<TestType> to{got.data(), rows, cols, cols};
    const bool known = visit_dialect(static_cast<dialect_id>(id), [&]<class D>() {
      REQUIRE(reference::dequantize<D>(apart.view(), dense_view<TestType>{expected.data(), rows, cols, cols}).ok());
    });
    REQUIRE(known);
    backward_executor backward;
    REQUIRE(dispatch::dequantize(static_cast<dialect_id>(id), apart.view(), to, {.executor = backward}).ok());
    CHECK(same_elements(got, expected));
    CHECK(backward.tasks > 0);
    std::ranges::fill(got, TestType{});
    REQUIRE(dispatch::dequantize(static_cast<dialect_id>(id), blocks.view(), to).ok());
    CHECK(same_elements(got, expected));
  }
}

TEMPLATE_TEST_CASE("dispatch: pack and the int8 products", "[dispatch]", layout::compressed_tensors, layout::ggml) {
  SKIP_WITHOUT_ISA();
  constexpr std::int64_t n = 53, k = 352, m = 21;
  test::splitmix random(4);
  mx_memory<TestType> w(n, k);
  test::fill(w, n, k, test::byte_range(110, 140), random);
  test::tokens x(m, k, 5);
  x.fill([&](std::int64_t, std::int64_t) { return random.with_exponent(115, 130); });

  const result<packed_matrix> packed = dispatch::pack(w.view());
  REQUIRE(packed);
  const test::tiles_of tiles(w, n, k);
  REQUIRE(packed->view().tiles == tiles.view().tiles);
  CHECK(std::equal(packed->codes(0), packed->codes(0) + packed->tiles() * packed->blocks() * 256, tiles.view().codes));
  CHECK(
      std::equal(packed->scales(0), packed->scales(0) + packed->tiles() * packed->blocks() * 16, tiles.view().scales));
  packed_matrix pieces = *packed_matrix::uninitialized(n, k);
  auto rows = w.view();
  rows.rows = 16;
  for (std::int64_t first = 0; first < n; first += 16, rows.codes += 16 * rows.code_stride,
                    rows.scales += 16 * rows.scale_stride, rows.rows = std::min<std::int64_t>(16, n - first))
    REQUIRE(dispatch::pack_rows(rows, first, pieces).ok());
  CHECK(std::ranges::equal(pieces.bytes(), packed->bytes()));
  CHECK(dispatch::pack_rows(w.view(), 16, pieces).code == errc::too_large);

  for (const int8_scaling scaling :
       {int8_scaling::e8m0, int8_scaling::row, int8_scaling::residual2, int8_scaling::residual3}) {
    for (const bool accumulate : {false, true}) {
      if (accumulate && scaling == int8_scaling::row) continue;  // an FMA, which sse2 has not
      const result<int8_activations> q = dispatch::quantize_activations(x.view(), scaling);
      REQUIRE(q);
      for (std::int64_t r = 0; r < m;
           ++r)  // a code is within half a step (e8m0: one, where it is clamped) of its number
        for (std::int64_t c = 0; c < k; ++c)
          REQUIRE(std::abs(q->scale(r, c / 32) * q->code(r, c) - static_cast<double>(x.at(r, c))) <=
                  1.001 * q->scale(r, c / 32));
      std::vector<float> expected(m * n, 0.25f), got(m * n, 0.25f), one(n, 0.25f);
      REQUIRE(reference::gemm(w.view(), *q, dense_view<float>{expected.data(), m, n, n}, accumulate).ok());
      backward_executor backward;
      const gemm_options options{accumulate, backward};
      REQUIRE(dispatch::gemm(*packed, *q, dense_view<float>{got.data(), m, n, n}, options).ok());
      CHECK(test::same_bits(got, expected));
      std::ranges::fill(got, 0.25f);
      REQUIRE(dispatch::gemm(w.view(), *q, dense_view<float>{got.data(), m, n, n}, options).ok());
      CHECK(test::same_bits(got, expected));

      const dense_view<const float> first{x.data.data(), 1, k, k};
      const result<int8_activations> token = dispatch::quantize_activations(first, scaling);
      REQUIRE(token);
      expected.resize(n);
      REQUIRE(dispatch::gemv(*packed, *token, one, options).ok());
      CHECK(test::same_bits(one, expected));
      std::ranges::fill(one, 0.25f);
      REQUIRE(dispatch::gemv(w.view(), *token, one, options).ok());
      CHECK(test::same_bits(one, expected));
    }
  }
}

TEST_CASE("dispatch: exact sums of float products equal the oracle", "[dispatch]") {
  SKIP_WITHOUT_ISA();
  constexpr std::int64_t n = 40, k = 96, m = 9;
  test::splitmix random(6);
  mx_memory<layout::ggml> w(n, k);
  test::fill(w, n, k, test::byte_range(124, 129), random);
  test::tokens x(m, k);
  x.fill([&](std::int64_t, std::int64_t) { return static_cast<float>(random.in(-8, 8)); });
  const test::exact_product exact(w, n, x);
  REQUIRE(exact.ok);
  const std::vector<float> expected(exact.sum.begin(), exact.sum.end());
  std::vector<bf16> narrow;
  for (const float v : x.data) narrow.push_back(encode_bf16(v));
  const result<packed_matrix> packed = dispatch::pack(w.view());
  REQUIRE(packed);
  std::vector<float> y(m * n, 1.0f);
  const dense_view<float> to{y.data(), m, n, n};
  REQUIRE(dispatch::gemm(w.view(), x.view(), to).ok());
  CHECK(test::same_bits(y, expected));
  REQUIRE(dispatch::gemm(*packed, dense_view<const bf16>{narrow.data(), m, k, k}, to).ok());
  CHECK(test::same_bits(y, expected));
  REQUIRE(dispatch::gemv(*packed, std::span(narrow).first(k), std::span(y).first(n)).ok());
  CHECK(std::equal(expected.begin(), expected.begin() + n, y.begin()));
  const result<mxfp8_activations> x8 = dispatch::quantize_activations(x.view(), mxfp8_scaling::floor);  // exact too
  REQUIRE(x8);
  REQUIRE(dispatch::gemm(w.view(), *x8, to).ok());
  CHECK(test::same_bits(y, expected));
  std::ranges::fill(y, 1.0f);
  REQUIRE(dispatch::gemm(*packed, x8->view(), to).ok());
  CHECK(test::same_bits(y, expected));
  const result<mxfp8_activations> token =
      dispatch::quantize_activations(dense_view<const float>{x.data.data(), 1, k, k}, mxfp8_scaling::rceil);
  REQUIRE(token);
  std::ranges::fill(y, 1.0f);
  REQUIRE(dispatch::gemv(*packed, *token, std::span(y).first(n)).ok());
  CHECK(std::equal(expected.begin(), expected.begin() + n, y.begin()));
  REQUIRE(dispatch::gemv(w.view(), *token, std::span(y).subspan(n, n)).ok());
  CHECK(std::equal(expected.begin(), expected.begin() + n, y.begin() + n));
}

TEST_CASE("dispatch: products as each dialect reads scale byte 255", "[dispatch]") {
  SKIP_WITHOUT_ISA();
  constexpr std::int64_t n = 17, k = 64;
  mx_memory<layout::compressed_tensors> w(n, k);
  mx_memory<layout::ggml> blocks(n, k);
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t c = 0; c < k; ++c) {
      w.set_code(r, c, c < 32 ? 0 : 1);  // 0 under byte 127, then 0.5 under 255
      w.scale(r, c / 32) = c < 32 ? 127 : 255;
      blocks.set_code(r, c, w.code(r, c));
      blocks.scale(r, c / 32) = w.scale(r, c / 32);
    }
  const result<packed_matrix> packed = dispatch::pack(w.view());
  REQUIRE(packed);
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::int64_t m : {1, 3}) {
    const std::vector<float> x(static_cast<std::size_t>(m * k), 0x1p-10f);
    const dense_view<const float> tokens{x.data(), m, k, k};
    const result<mxfp8_activations> x8 = dispatch::quantize_activations(tokens, mxfp8_scaling::floor);
    REQUIRE(x8);
    for (const auto& [id, number] :
         {std::pair{dialect_id::ocp, nan}, {dialect_id::inf_at_255, inf}, {dialect_id::ggml, 0x1p122f}}) {
      const float expected = number;
      CAPTURE(m, static_cast<int>(id));
      std::vector<float> y(static_cast<std::size_t>(m * n));
      const dense_view<float> to{y.data(), m, n, n};
      const auto check = [&](const status& s) {
        REQUIRE(s.ok());
        CHECK(std::ranges::all_of(y, [&](float v) { return std::isnan(expected) ? std::isnan(v) : v == expected; }));
        std::ranges::fill(y, 5.0f);
      };
      check(dispatch::gemm(id, w.view(), tokens, to));
      check(dispatch::gemm(id, blocks.view(), tokens, to));
      check(dispatch::gemm(id, *packed, tokens, to));
      check(dispatch::gemm(id, packed->view(), tokens, to));
      check(dispatch::gemm(id, w.view(), *x8, to));
      check(dispatch::gemm(id, *packed, x8->view(), to));
      visit_dialect(id, [&]<class D>() { check(dispatch::gemm<D>(*packed, tokens, to)); });
      if (m > 1) continue;
      check(dispatch::gemv(id, w.view(), x, y));
      check(dispatch::gemv(id, *packed, *x8, y));
      visit_dialect(id, [&]<class D>() { check(dispatch::gemv<D>(blocks.view(), x, y)); });
    }
    std::vector<float> y(static_cast<std::size_t>(m * n), 7.0f);
    const auto unknown = static_cast<dialect_id>(9);
    CHECK(dispatch::gemm(unknown, w.view(), tokens, dense_view<float>{y.data(), m, n, n}).code ==
          errc::unknown_dialect);
    CHECK(dispatch::gemm(unknown, *packed, *x8, dense_view<float>{y.data(), m, n, n}).code == errc::unknown_dialect);
    CHECK(y == std::vector<float>(y.size(), 7.0f));
  }
}

TEMPLATE_TEST_CASE("dispatch: MXFP8 activations are encode_mxfp8's bytes", "[dispatch][mxfp8]", float, bf16, f16) {
  SKIP_WITHOUT_ISA();
  constexpr std::int64_t m = 19, k = 512;
  const std::vector<TestType> x = numbers<TestType>(m * k, 21);
  const dense_view<const TestType> from{x.data(), m, k, k};
  for (const mxfp8_scaling scaling : {mxfp8_scaling::floor, mxfp8_scaling::rceil}) {
    const result<mxfp8_activations> made = dispatch::quantize_activations(from, scaling);
    REQUIRE(made);
    std::vector<std::uint8_t> elements(m * k), scales(m * k / 32);
    const mxfp8_view own{elements.data(), scales.data(), m, k, k, k / 32};
    backward_executor backward;
    REQUIRE(dispatch::quantize_activations(from, own, scaling, {.executor = backward}).ok());
    CHECK(backward.tasks > 0);
    bool same = true;
    for (std::int64_t r = 0; r < m; ++r)
      for (std::int64_t b = 0; b < k / 32; ++b) {
        TestType block[32];
        std::copy_n(x.data() + r * k + 32 * b, 32, block);
        const mxfp8_block expected = encode_mxfp8(block, scaling);
        for (const auto& view : {made->view(), const_mxfp8_view(own)}) {
          same = same && view.scales[r * view.scale_stride + b] == static_cast<std::uint8_t>(expected.scale);
          for (int i = 0; i < 32; ++i)
            same = same && view.elements[r * view.element_stride + 32 * b + i] ==
                               static_cast<std::uint8_t>(expected.element[i]);
        }
      }
    CHECK(same);
  }
}

TEST_CASE("dispatch: bad arguments", "[dispatch]") {
  SKIP_WITHOUT_ISA();
  std::vector<float> x(64, 1.0f), y(64, 7.0f);
  mx_memory<layout::compressed_tensors> w(2, 32);
  const dense_view<const float> in{x.data(), 2, 32, 32};
  const dense_view<float> out{y.data(), 2, 32, 32};
  const auto bad_recipe = dispatch::quantize(static_cast<recipe_id>(77), in, w.view());
  CHECK(message(bad_recipe).view() == "recipe is 77, expected one of the recipe_id enumerators");
  const auto bad_dialect = dispatch::dequantize(static_cast<dialect_id>(9), w.view(), out);
  CHECK(message(bad_dialect).view() == "dialect is 9, expected one of the dialect_id enumerators");
  CHECK(dispatch::quantize(recipe_id::ocp, dense_view<const float>{x.data(), 1, 32, 32}, w.view()).code ==
        errc::shape_mismatch);
  CHECK(dispatch::quantize(recipe_id::ocp, dense_view<const float>{nullptr, 2, 32, 32}, w.view()).code ==
        errc::null_pointer);
  CHECK(dispatch::pack(const_mx_view<>{nullptr, nullptr, 2, 32, 16, 1}).error().code == errc::null_pointer);
  CHECK(dispatch::pack(const_mx_view<>{w.view().codes, w.view().scales, 2, 33, 16, 1}).error().code ==
        errc::not_blocks);
  CHECK(dispatch::quantize_activations(dense_view<const float>{x.data(), 2, 31, 31}, int8_scaling::row).error().code ==
        errc::not_blocks);
  CHECK(dispatch::quantize_activations(dense_view<const float>{x.data(), 2, 32, 31}, int8_scaling::row).error().code ==
        errc::stride_too_small);
  mxfp8_activations x8 = *mxfp8_activations::create(2, 64);
  CHECK(message(dispatch::quantize_activations(in, x8.view())).view() == "out.cols is 64, expected 32");
  CHECK(message(dispatch::gemm(w.view(), x8, out)).view() == "x.cols is 64, expected 32");
  CHECK(message(dispatch::gemm(const_mx_view<>{nullptr, nullptr, 2, 64, 32, 2}, x8, out)).view() ==
        "w.codes is null, expected memory for 64 elements");
  CHECK(
      dispatch::quantize_activations(dense_view<const float>{x.data(), 2, 31, 32}, mxfp8_scaling::floor).error().code ==
      errc::not_blocks);
  CHECK(w.is_untouched());
  CHECK(std::ranges::all_of(y, [](float v) { return v == 7.0f; }));
  x[40] = std::numeric_limits<float>::infinity();
  const auto refused = dispatch::quantize(recipe_id::ocp, in, w.view(), {.nonfinite = on_nonfinite::refuse});
  CHECK(refused.code == errc::nonfinite);
  CHECK(refused.value == 40);
  CHECK(w.is_untouched());
}
