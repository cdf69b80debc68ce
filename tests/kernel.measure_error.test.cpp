// tests/kernel.measure_error.test.cpp -- the kernel's counts are the plain loop's, its sums within the stated bound.
// SPDX-License-Identifier: Apache-2.0
//
// Built once for each instruction set; error_statistics.golden.test.cpp says what is counted as what.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "mxfp4/kernel/measure_error.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "support/arches.hpp"
#include "support/backward_executor.hpp"
#include "support/matrix.hpp"
#include "support/random.hpp"
#include "support/statistics.hpp"

namespace {

using namespace mxfp4;
using test::check_counts;
using test::check_sums;

/// Weights and what they became, or something else altogether.
template <class T>
struct sample {
  std::int64_t rows, cols, gap;
  std::vector<T> w;
  std::vector<std::uint8_t> codes, scales;
  [[nodiscard]] dense_view<const T> weights() const { return {w.data() + 1, rows, cols, cols + gap}; }
  [[nodiscard]] mx_view<> view() {
    return {codes.data() + 1, scales.data(), rows, cols, cols / 2 + gap, cols / 32 + gap};
  }
  sample(std::int64_t m, std::int64_t n, std::int64_t extra)
      : rows(m),
        cols(n),
        gap(extra),
        w(static_cast<std::size_t>(m * (n + extra) + 1)),
        codes(static_cast<std::size_t>(m * (n / 2 + extra) + 1), test::poison),
        scales(static_cast<std::size_t>(m * (n / 32 + extra)), test::poison) {}
};

/// Any weight under any code under any scale; in turns of eight blocks one kind, so that whole groups are of it.
template <class T>
sample<T> adversarial(std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
  sample<T> s(rows, cols, 5);
  test::splitmix random(seed);
  mx_view<> q = s.view();
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t b = 0; b < cols / 32; ++b) {
      const int kind = static_cast<int>((r * (cols / 32) + b) / 8 % 9);
      const int byte = kind < 5 ? 127 + random.in(-6, 2) : random.in(0, 15) == 0 ? 255 : random.in(0, 255);
      const int middle = kind == 4 ? random.in(1, 254) : byte;  // 4: out of proportion
      *q.block_scale(r, b) = static_cast<std::uint8_t>(byte);
      const bool empty = kind == 1 && random.in(0, 3) == 0;  // nothing but zeros
      for (int j = 0; j < 16; ++j) q.block_codes(r, b)[j] = empty ? random.byte() & 0x88u : random.byte();
      for (int i = 0; i < 32; ++i) {
        const int low = middle - 8 < 1 ? 1 : middle - 8, high = middle + 5 > 254 ? 254 : middle + 5;
        float x = low < high ? random.with_exponent(low, high) : 0.0f;
        if (random.in(0, 9) == 0) x = random.in(0, 1) != 0 ? 0.0f : -0.0f;
        if (random.in(0, 20) == 0) x = std::ldexp(random.in(0, 1) != 0 ? 6.0f : -6.0f, byte - 127);  // not saturated
        if (kind == 2 && random.in(0, 99) == 0) x = std::numeric_limits<float>::infinity();
        if (kind == 2 && random.in(0, 99) == 0) x = std::numeric_limits<float>::quiet_NaN();
        if (kind == 6 && i % 5 == 0) x = test::from_bits<float>(random.bits() & 0x807FFFFFu);  // subnormal
        s.w[static_cast<std::size_t>(1 + r * (cols + s.gap) + b * 32 + i)] = encode<T>(x);
      }
    }
  return s;
}

/// As a tool has them: numbers of a layer, quantised.
template <class T>
sample<T> quantised(std::int64_t rows, std::int64_t cols) {
  sample<T> s(rows, cols, 0);
  test::splitmix random(5);
  for (T& w : s.w)
    w = encode<T>(0.01f * static_cast<float>(random.in(-99, 99) + random.in(-99, 99) + random.in(-9, 9)) / 7.0f);
  REQUIRE(reference::quantize<recipe::compressed_tensors>(s.weights(), s.view()).ok());
  return s;
}

bool same_bits(const error_statistics& a, const error_statistics& b) {
  return a.squared_weights == b.squared_weights && a.squared_error == b.squared_error && a.max_error == b.max_error;
}

template <class T>
error_statistics by_plain_loop(sample<T>& s) {
  error_statistics sum;
  REQUIRE(reference::measure_error(s.weights(), s.view(), sum).ok());
  return sum;
}

template <class T, class Arch>
error_statistics by_kernel(sample<T>& s, executor_ref with = {}) {
  error_statistics sum;
  REQUIRE(kernel::measure_error<Arch>(s.weights(), s.view(), sum, {.executor = with}).ok());
  return sum;
}

/// Every architecture against the plain loop, and those that fuse against one another.
template <class T>
void check_all(sample<T> s) {
  const error_statistics expected = by_plain_loop(s);
  CHECK(expected.squared_weights > 0);
  std::vector<error_statistics> fused;
  test::for_each_arch([&]<class Arch>(const char* name) {
    CAPTURE(name, sizeof(T), s.rows, s.cols);
    const error_statistics got = by_kernel<T, Arch>(s);
    check_counts(got, expected);
    check_sums(got, expected);
    if (test::fuses<Arch>) fused.push_back(got);
  });
  for (const error_statistics& f : fused) CHECK(same_bits(f, fused.front()));
}

}  // namespace

TEST_CASE("kernel::measure_error: any weight under any code and scale byte", "[kernel][measure_error]") {
  check_all(adversarial<float>(9, 72 * 32, 1));
  check_all(adversarial<bf16>(9, 72 * 32, 2));
  check_all(adversarial<f16>(9, 72 * 32, 3));
}

TEST_CASE("kernel::measure_error: block by block, so that nothing is lost in a sum", "[kernel][measure_error]") {
  sample<float> all = adversarial<float>(1, 3000 * 32, 4);
  test::for_each_arch([&]<class Arch>(const char* name) {
    CAPTURE(name);
    for (std::int64_t b = 0; b < 3000; b += 5) {
      const dense_view<const float> w{all.weights().row(0) + b * 32, 1, 160, 160};
      const mx_view<> q{all.view().block_codes(0, b), all.view().block_scale(0, b), 1, 160, 80, 5};
      error_statistics expected, got;
      REQUIRE(reference::measure_error(w, q, expected).ok());
      REQUIRE(kernel::measure_error<Arch>(w, q, got).ok());
      check_counts(got, expected);
      check_sums(got, expected);
    }
  });
}

TEST_CASE("kernel::measure_error: weights of a layer; the largest error is exact", "[kernel][measure_error]") {
  check_all(quantised<float>(64, 4096));
  sample<bf16> s = quantised<bf16>(3, 20000 * 32);
  const error_statistics expected = by_plain_loop(s), got = by_kernel<bf16, simd::native_arch>(s);
  check_counts(got, expected);
  check_sums(got, expected);
  CHECK(got.max_error == expected.max_error);
}

TEST_CASE("kernel::measure_error: weights out of all proportion: squares are added with one rounding, on every machine",
          "[kernel][measure_error][golden]") {
  // Errors of 53 bits in elements 0 and 16, which share a lane: rounded products would end in ...486.
  std::vector<float> w(32);
  std::vector<std::uint8_t> codes(16), scales{77};  // 2^-50
  w[0] = 0x1.7ed4d6p+1f;
  w[16] = 0x1.7311d8p+1f;
  codes[0] = 3;  // 1.5
  codes[8] = 7;  // 6
  test::for_each_arch([&]<class Arch>(const char* name) {
    CAPTURE(name);
    error_statistics sum;
    const mx_view<> q{codes.data(), scales.data(), 1, 32, 16, 1};
    REQUIRE(kernel::measure_error<Arch>(dense_view<const float>{w.data(), 1, 32, 32}, q, sum).ok());
    CHECK(sum.saturated == 2);
    CHECK(sum.squared_weights == 0x1.1597263a6249p+4);
    CHECK(sum.squared_error == 0x1.1597263a62485p+4);
    CHECK(sum.max_error == 0x1.7ed4d5ffffffdp+1);
  });
}

TEST_CASE("kernel::measure_error: the same bits in any order of the tasks; sums go on", "[kernel][measure_error]") {
  sample<float> s = quantised<float>(41, 4096 + 96);
  const error_statistics serially = by_kernel<float, simd::native_arch>(s);
  check_counts(serially, by_plain_loop(s));
  test::backward_executor backward;
  CHECK(same_bits(by_kernel<float, simd::native_arch>(s, backward), serially));
  CHECK(backward.tasks == 2);  // 5371 blocks: the last part has one more
  error_statistics twice = serially;
  REQUIRE(kernel::measure_error(s.weights(), s.view(), twice).ok());
  CHECK((twice.weights == 2 * serially.weights && twice.scales[119] == 2 * serially.scales[119]));
  CHECK(twice.max_error == serially.max_error);
}

TEST_CASE("kernel::measure_error: no read past the last element", "[kernel][measure_error]") {
  const test::page_end<f16> w(11 * 32);
  const test::page_end<std::uint8_t> codes(11 * 16), scales(11);
  for (int i = 0; i < 11; ++i) scales.data()[i] = 127;
  for (int i = 0; i < 11 * 16; ++i) codes.data()[i] = 1;
  error_statistics sum;
  const mx_view<> q{codes.data(), scales.data(), 1, 11 * 32, 11 * 16, 11};
  REQUIRE(kernel::measure_error(dense_view<const f16>{w.data(), 1, 352, 352}, q, sum).ok());
  CHECK((sum.squared_error == 11 * 16 * 0.25 && sum.max_error == 0.5 && sum.scales[127] == 11));
}

TEST_CASE("kernel::measure_error: refused arguments leave the sum alone; nothing is nothing",
          "[kernel][measure_error]") {
  sample<float> s = quantised<float>(2, 64);
  error_statistics sum;
  CHECK(kernel::measure_error(dense_view<const float>{nullptr, 2, 64, 64}, s.view(), sum).code == errc::null_pointer);
  CHECK(kernel::measure_error(dense_view<const float>{s.w.data(), 1, 64, 64}, s.view(), sum).code ==
        errc::shape_mismatch);
  CHECK(sum.weights == 0);
  const mx_view<> none{nullptr, nullptr, 0, 64, 32, 2};
  CHECK(kernel::measure_error(dense_view<const float>{s.w.data(), 0, 64, 64}, none, sum).ok());
  CHECK(sum.weights == 0);
}
