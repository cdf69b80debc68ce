// tests/kernel.quantize_measured.test.cpp -- one pass gives the bytes and the counts of three plain loops.
// SPDX-License-Identifier: Apache-2.0
//
// Built once for each instruction set; the lower paths of a set are tried inside.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "mxfp4/kernel/quantize_measured.hpp"
#include "support/arches.hpp"
#include "support/backward_executor.hpp"
#include "support/matrix.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"
#include "support/statistics.hpp"

namespace {

using namespace mxfp4;

/// FP8 weights and what they become; nobody writes between the rows.
struct sample {
  std::int64_t rows, cols, gap;
  std::vector<e4m3> w;
  std::vector<float> factors;
  std::vector<std::uint8_t> codes, scales;

  sample(std::int64_t m, std::int64_t n, std::int64_t extra)
      : rows(m),
        cols(n),
        gap(extra),
        w(static_cast<std::size_t>(m * (n + extra))),
        factors(static_cast<std::size_t>((m + 127) / 128 * ((n + 127) / 128)), 1.0f),
        codes(static_cast<std::size_t>(m * (n / 2 + extra)), test::poison),
        scales(static_cast<std::size_t>(m * (n / 32 + extra)), test::poison) {}

  [[nodiscard]] dense_view<const e4m3> weights() const { return {w.data(), rows, cols, cols + gap}; }
  [[nodiscard]] dense_view<const float> block_scales() const {
    const std::int64_t across = (cols + 127) / 128;
    return {factors.data(), (rows + 127) / 128, across, across};
  }
  [[nodiscard]] mx_view<> view() { return {codes.data(), scales.data(), rows, cols, cols / 2 + gap, cols / 32 + gap}; }

  /// Mostly numbers of a layer; of every eighth row any code, NaN too.
  void fill(std::uint64_t seed) {
    test::splitmix random(seed);
    for (std::size_t i = 0; i < w.size(); ++i) {
      const auto sum = static_cast<float>(random.in(-99, 99) + random.in(-99, 99) + random.in(-99, 99));
      const bool any = static_cast<std::int64_t>(i) / (cols + gap) % 8 == 7;
      w[i] = any ? static_cast<e4m3>(random.byte()) : encode<e4m3>(sum / 4);
    }
  }
};

/// The three plain loops one after the other.
template <class Recipe>
error_statistics by_plain_loops(sample& s) {
  std::vector<bf16> widened(static_cast<std::size_t>(s.rows * s.cols));
  const dense_view<bf16> numbers{widened.data(), s.rows, s.cols, s.cols};
  REQUIRE(reference::widen_fp8(s.weights(), s.block_scales(), numbers).ok());
  REQUIRE(reference::quantize_fp8<Recipe>(s.weights(), s.block_scales(), s.view()).ok());
  error_statistics sum;
  REQUIRE(reference::measure_error(numbers, s.view(), sum).ok());
  return sum;
}

template <class Recipe, class Arch>
error_statistics check_sample(const sample& s) {
  CAPTURE(Recipe::name, s.rows, s.cols);
  sample expected = s, got = s;
  const error_statistics want = by_plain_loops<Recipe>(expected);
  error_statistics sum;
  REQUIRE(kernel::quantize_fp8_measured<Recipe, Arch>(got.weights(), got.block_scales(), got.view(), sum).ok());
  CHECK(got.codes == expected.codes);  // with the gaps between rows
  CHECK(got.scales == expected.scales);
  test::check_counts(sum, want);
  test::check_sums(sum, want);  // no square here underflows
  return sum;
}

/// A recipe for each rounding, each sign of zero and each kind of scale rule.
void check_kinds_of_recipes(const sample& s) {
  check_sample<recipe::ocp, simd::native_arch>(s);
  check_sample<recipe::compressed_tensors, simd::native_arch>(s);
  check_sample<recipe::torchao_rceil, simd::native_arch>(s);
  check_sample<recipe::microxcaling_nearest, simd::native_arch>(s);
  check_sample<recipe::microxcaling_py_even, simd::native_arch>(s);
  check_sample<recipe::modelopt, simd::native_arch>(s);
  check_sample<recipe::ggml, simd::native_arch>(s);
  check_sample<recipe::mlx, simd::native_arch>(s);
}

}  // namespace

TEST_CASE("kernel::quantize_fp8_measured: a block by hand", "[kernel][fp8]") {
  sample s(1, 32, 0);
  for (e4m3& w : s.w) w = encode<e4m3>(-0.125f);
  s.w[3] = encode<e4m3>(5.0f);  // half way between 4 and 6: to 4, whose mantissa is even
  s.factors = {2.0f};
  error_statistics sum;
  REQUIRE(kernel::quantize_fp8_measured<recipe::ocp>(s.weights(), s.block_scales(), s.view(), sum).ok());
  CHECK(s.scales[0] == 128);  // 10 = 1.25 * 2^3, and 3 - 2 = 1
  CHECK((s.codes[0] == 0x88 && s.codes[1] == 0x68));
  CHECK((sum.weights == 32 && sum.zeroed == 31 && sum.scales[128] == 1));
  CHECK((sum.saturated == 0 && sum.lost == 0 && sum.nonfinite == 0 && sum.nan_blocks == 0));
  CHECK(sum.squared_weights == 100.0 + 31.0 / 16);
  CHECK(sum.squared_error == 4.0 + 31.0 / 16);
  CHECK(sum.max_error == 2.0);
}

TEST_CASE("kernel::quantize_fp8_measured: every kind of block scale, tile by tile", "[kernel][fp8]") {
  sample s(128, 160, 3);
  s.fill(1);
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const float factor : {0.011f, -0.011f, 1.0f, 0.0f, 0x1p-60f, 0x1p60f, 0x1p118f, 0x1.8p119f, inf, nan}) {
    CAPTURE(factor);
    s.factors = {factor, 0.37f};
    test::for_each_arch([&]<class Arch>(const char* name) {
      CAPTURE(name);
      check_sample<recipe::compressed_tensors, Arch>(s);
    });
  }
}

TEST_CASE("kernel::quantize_fp8_measured: every byte beside every largest one", "[kernel][fp8]") {
  // Block b of row r: the largest magnitude is b, and 32 of the 256 bytes up to it.
  sample s(8, 127 * 32 + 32, 0);
  for (unsigned r = 0; r < 8; ++r)
    for (unsigned i = 0; i < 128 * 32; ++i) {
      const unsigned byte = r * 32 + i % 32, largest = i / 32 % 127;
      s.w[r * 128 * 32 + i] = static_cast<e4m3>(i % 32 == 5 ? largest : (byte & 127u) <= largest ? byte : byte & 128u);
    }
  test::splitmix random(4);
  for (int turn = 0; turn < 3; ++turn) {
    for (float& factor : s.factors) {
      const auto exponent = static_cast<unsigned>(random.in(100, 140));
      const auto mantissa = turn == 0 ? 0u : static_cast<unsigned>(random.bits()) & (turn == 1 ? 0x780000u : 0x7FFFFFu);
      factor = test::as_float(exponent << 23 | mantissa);
    }
    CAPTURE(turn);
    check_kinds_of_recipes(s);
  }
}

TEST_CASE("kernel::quantize_fp8_measured: every mantissa of a scale in 8 bits, and both ends of its range",
          "[kernel][fp8]") {
  sample s(4, 128 * 256, 0);
  for (std::size_t i = 0; i < s.w.size(); ++i) {
    const auto m = static_cast<unsigned>(i * 37 % 127);
    s.w[i] = static_cast<e4m3>((i / 5 % 2 << 7) | (i % 64 < 32 || m < 88 ? m : m & 63u));
  }
  for (std::size_t t = 0; t < 256; ++t)
    s.factors[t] = test::as_float(0x3F800000u | static_cast<std::uint32_t>(t) << 15);
  check_sample<recipe::compressed_tensors, simd::native_arch>(s);
  check_sample<recipe::torchao_rceil, simd::native_arch>(s);
  check_sample<recipe::mlx, simd::native_arch>(s);
  for (std::size_t t = 0; t < 256; ++t)  // every exponent
    s.factors[t] = test::as_float(static_cast<std::uint32_t>(t) << 23 | 0x333333u);
  check_sample<recipe::compressed_tensors, simd::native_arch>(s);
  check_sample<recipe::modelopt, simd::native_arch>(s);
}

TEST_CASE("kernel::quantize_fp8_measured: a weight far below the largest of its block", "[kernel][fp8]") {
  sample s(4, 128, 0);
  for (e4m3& w : s.w) w = encode<e4m3>(256.0f);
  s.factors = {1.0f};
  error_statistics sum;
  REQUIRE(kernel::quantize_fp8_measured<recipe::ocp>(s.weights(), s.block_scales(), s.view(), sum).ok());
  CHECK((sum.squared_error == 0 && sum.max_error == 0 && sum.zeroed == 0 && sum.squared_weights == 512 * 0x1p16));
  for (const float least : {0x1p-9f, 0x1p-8f, 0x1.8p-8f, 0x1p-7f, 0x1.4p-7f, 0x1p-6f}) {  // 256 = 4 s
    CAPTURE(least);
    s.w[77] = encode<e4m3>(-least);
    sum = {};
    REQUIRE(kernel::quantize_fp8_measured<recipe::ocp>(s.weights(), s.block_scales(), s.view(), sum).ok());
    CHECK((sum.zeroed == 1 && sum.saturated == 0 && sum.weights == 512 && sum.scales[133] == 16));
    CHECK(sum.squared_error == static_cast<double>(least) * static_cast<double>(least));
    CHECK(sum.max_error == static_cast<double>(least));
    CHECK(s.codes[38] == 0x86);
  }
}

TEST_CASE("kernel::quantize_fp8_measured: recipes", "[kernel][fp8]") {
  sample s(130, 96, 0);
  s.fill(2);
  check_sample<recipe::ocp, simd::native_arch>(s);
  check_sample<recipe::mlx, simd::native_arch>(s);
  check_sample<recipe::min_mse, simd::native_arch>(s);
}

TEST_CASE("kernel::quantize_fp8_measured: shapes; the same bits wherever it fuses, without tables", "[kernel][fp8]") {
  for (const auto& [rows, cols] :
       {std::pair{1, 32}, {129, 160}, {5, 2048 + 96}, {257, 64}, {2, 4096 + 32}, {0, 64}, {64, 0}}) {
    sample s(rows, cols, 5);
    s.fill(3);
    for (std::size_t t = 0; t < s.factors.size(); ++t) s.factors[t] = 0.01f * static_cast<float>(t % 7 + 1);
    std::vector<error_statistics> fused;
    test::for_each_arch([&]<class Arch>(const char* name) {
      CAPTURE(name);
      const error_statistics sum = check_sample<recipe::compressed_tensors, Arch>(s);
      if (test::fuses<Arch> && !simd::has_avx512vbmi<Arch>) fused.push_back(sum);  // tables add in another order
    });
    for (const error_statistics& f : fused) {
      CHECK(f.squared_weights == fused.front().squared_weights);
      CHECK(f.squared_error == fused.front().squared_error);
    }
  }
}

TEST_CASE("kernel::quantize_fp8_measured: sums go on; no read or write past the end", "[kernel][fp8]") {
  const test::page_end<e4m3> x(3 * 32);
  const test::page_end<float> factor(1);
  const test::page_end<std::uint8_t> codes(3 * 16), scales(3);
  for (int i = 0; i < 3 * 32; ++i) x.data()[i] = encode<e4m3>(5.0f);
  *factor.data() = 1.0f;
  error_statistics sum;
  for (int turn = 0; turn < 2; ++turn)
    REQUIRE(kernel::quantize_fp8_measured<>({x.data(), 3, 32, 32}, {factor.data(), 1, 1, 1},
                                            mx_view<>{codes.data(), scales.data(), 3, 32, 16, 1}, sum)
                .ok());
  CHECK((sum.weights == 192 && sum.squared_weights == 192 * 25.0 && sum.squared_error == 192.0));
  CHECK((sum.max_error == 1.0 && sum.scales[127] == 6));
}

TEST_CASE("kernel::quantize_fp8_measured: tasks are cut by the shape alone, and the sums with them", "[kernel][fp8]") {
  struct cut {
    std::int64_t rows, cols;
    std::size_t tasks;
  };
  // A slab of 2^19 weights and one of 128 rows less than twice that are one task; 16 are the most.
  for (const auto& [rows, cols, tasks] :
       {cut{1, 32, 1}, {256, 2048, 1}, {384, 2048, 1}, {640, 2048, 2}, {130, 12320, 3}, {4352, 2048, 16}}) {
    CAPTURE(rows, cols);
    sample s(rows, cols, 0);
    s.fill(6);
    for (std::size_t t = 0; t < s.factors.size(); ++t) s.factors[t] = 0.01f * static_cast<float>(t % 7 + 1);
    sample again = s;
    test::backward_executor backward;
    error_statistics alone, sum;
    REQUIRE(kernel::quantize_fp8_measured(s.weights(), s.block_scales(), s.view(), alone).ok());
    REQUIRE(kernel::quantize_fp8_measured(again.weights(), again.block_scales(), again.view(), sum,
                                          {.nonfinite = on_nonfinite::encode, .executor = backward})
                .ok());
    CHECK(backward.tasks == tasks);
    CHECK(again.codes == s.codes);
    CHECK(again.scales == s.scales);
    test::check_counts(sum, alone);
    CHECK((sum.squared_weights == alone.squared_weights && sum.squared_error == alone.squared_error));
    CHECK(sum.max_error == alone.max_error);
    CHECK(sum.weights == rows * cols);
  }
}

TEST_CASE("kernel::quantize_fp8_measured: a task's sums are those of its rows alone", "[kernel][fp8]") {
  sample s(640, 2048, 0);  // five bands: two tasks, of two and of three, each of which is one task by itself
  s.fill(7);
  sample part = s;
  error_statistics whole, parts;
  REQUIRE(kernel::quantize_fp8_measured(s.weights(), s.block_scales(), s.view(), whole).ok());
  for (const auto& [first, last] : {std::pair{0, 256}, {256, 640}}) {
    const dense_view<const e4m3> w = part.weights();
    const dense_view<const float> factors = part.block_scales();
    const mx_view<> out = part.view();
    REQUIRE(
        kernel::quantize_fp8_measured({w.row(first), last - first, w.cols, w.stride},
                                      {factors.row(first / 128), (last - first) / 128, factors.cols, factors.stride},
                                      mx_view<>{out.block_codes(first, 0), out.block_scale(first, 0), last - first,
                                                out.cols, out.code_stride, out.scale_stride},
                                      parts)
            .ok());
  }
  CHECK(part.codes == s.codes);
  CHECK(part.scales == s.scales);
  test::check_counts(parts, whole);
  CHECK((parts.squared_weights == whole.squared_weights && parts.squared_error == whole.squared_error));
}

TEST_CASE("kernel::quantize_fp8_measured: refuses what is not finite before anything is written", "[kernel][fp8]") {
  sample s(130, 160, 0);
  for (e4m3& w : s.w) w = encode<e4m3>(1.0f);
  error_statistics sum;
  const quantize_options refuse{.nonfinite = on_nonfinite::refuse};
  s.w[129 * 160 + 140] = s.w[2 * 160 + 150] = e4m3{0x7F};
  const status got =
      kernel::quantize_fp8_measured(recipe_id::ocp, s.weights(), s.block_scales(), s.view(), sum, refuse);
  CHECK((got.code == errc::nonfinite && got.value == 2 * 160 + 150));
  CHECK(s.codes == std::vector<std::uint8_t>(s.codes.size(), test::poison));
  CHECK(sum.weights == 0);
  s.w[129 * 160 + 140] = s.w[2 * 160 + 150] = encode<e4m3>(1.0f);
  CHECK(kernel::quantize_fp8_measured(s.weights(), s.block_scales(), s.view(), sum, refuse).ok());
  CHECK((sum.weights == 130 * 160 && sum.squared_error == 0));
}

TEST_CASE("kernel::quantize_fp8_measured: refused arguments leave output and sum alone", "[kernel][fp8]") {
  sample s(130, 160, 0);
  error_statistics sum;
  const auto refuse = [&](const dense_view<const e4m3>& w, const dense_view<const float>& factors) {
    const status got = kernel::quantize_fp8_measured<>(w, factors, s.view(), sum);
    CHECK(s.codes == std::vector<std::uint8_t>(s.codes.size(), test::poison));
    CHECK(sum.weights == 0);
    return got.code;
  };
  CHECK(refuse({nullptr, 130, 160, 160}, s.block_scales()) == errc::null_pointer);
  CHECK(refuse({s.w.data(), 130, 128, 160}, s.block_scales()) == errc::shape_mismatch);
  CHECK(refuse(s.weights(), {s.factors.data(), 1, 2, 2}) == errc::shape_mismatch);
  CHECK(refuse({reinterpret_cast<const e4m3*>(s.codes.data()), 130, 160, 160}, s.block_scales()) == errc::overlap);
}
