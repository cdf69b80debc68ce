// tests/activation.equal.test.cpp -- int8 activations: golden codes, the definition in double, every ISA against both.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "mxfp4/kernel/activation.hpp"
#include "support/arches.hpp"
#include "support/matrix.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;
using mxfp4::test::page_end;
constexpr float infinity = std::numeric_limits<float>::infinity(),
                not_a_number = std::numeric_limits<float>::quiet_NaN();

dense_view<const float> view_of(const std::vector<float>& x, std::int64_t rows) {
  const auto cols = static_cast<std::int64_t>(x.size()) / rows;
  return {x.data(), rows, cols, cols};
}

constexpr int8_scaling every_scaling[] = {int8_scaling::e8m0, int8_scaling::f32, int8_scaling::row,
                                          int8_scaling::residual2, int8_scaling::residual3};

/// MXINT8 from OCP's text, in double: shared exponent floor(log2 amax), six fraction bits, nearest even, clamped.
int mxint8_by_definition(double x, double amax, int& byte) {
  const int exponent = amax == 0 ? 0 : std::max(std::ilogb(amax), -127);
  byte = exponent + 127;
  const double q = std::nearbyint(std::ldexp(x, 6 - exponent));
  return static_cast<int>(std::fmin(std::fmax(q, -127), 127));
}

}  // namespace

TEST_CASE("mxint8: named situations", "[int8][golden]") {
  struct row {
    float x, amax;
    int code, byte;
    const char* why;
  };
  constexpr row rows[] = {
      {1.0f, 1.0f, 64, 127, "amax itself, a power of two"},
      {-1.0f, 1.0f, -64, 127, "sign"},
      {1.984375f, 1.984375f, 127, 127, "largest exact code"},
      {1.9999999f, 1.9999999f, 127, 127, "128 is clamped"},
      {-1.9999999f, 1.9999999f, -127, 127, "so is -128"},
      {0x1p-7f, 1.0f, 0, 127, "midpoint 0|1: even is 0"},
      {0x1.000002p-7f, 1.0f, 1, 127, "one ulp above it"},
      {0x3p-7f, 1.0f, 2, 127, "midpoint 1|2: even is 2"},
      {0x5p-7f, 1.0f, 2, 127, "midpoint 2|3: even is 2"},
      {0x1p127f, 0x1.8p127f, 64, 254, "largest exponent"},
      {0x1p-126f, 0x1p-126f, 64, 1, "smallest normal"},
      {0x1p-127f, 0x1p-127f, 64, 0, "subnormal, byte 0"},
      {0x1p-133f, 0x1p-133f, 1, 0, "below 2^-127 the exponent is clamped"},
      {0x1p-149f, 0x1p-149f, 0, 0, "smallest subnormal: too small"},
      {0x1p-149f, 0x1p127f, 0, 254, "much smaller than amax"},
  };
  for (const auto& [x, amax, code, byte, why] : rows) {
    CAPTURE(x, amax, why);
    std::vector<float> block(32, 0.0f);
    block[0] = amax;
    block[17] = x;
    const result<int8_activations> a = quantize_activations(view_of(block, 1), int8_scaling::e8m0);
    CHECK(a->code(0, 17) == code);
    CHECK(a->scale_byte(0, 0) == byte);
    CHECK(a->scale(0, 0) == std::ldexp(1.0, byte - 133));
  }
}

TEMPLATE_LIST_TEST_CASE("e8m0: every exponent, against the definition in double", "[int8][property]",
                        mxfp4::test::arches) {
  test::splitmix random(3);
  for (const std::int64_t rows : {1, 2, 3, 7, 11, 16, 29})
    for (int exponent = 0; exponent <= 254; exponent += rows == 1 ? 1 : 50) {
      std::vector<float> x(static_cast<std::size_t>(rows * 64));
      for (float& v : x) v = random.with_exponent(std::max(exponent - 9, 0), exponent);
      const result<int8_activations> a = quantize_activations<TestType>(view_of(x, rows), int8_scaling::e8m0);
      int wrong = 0;
      for (std::int64_t m = 0; m < rows; ++m)
        for (std::int64_t b = 0; b < 2; ++b) {
          const float* const block = x.data() + m * 64 + b * 32;
          double amax = 0;
          for (int i = 0; i < 32; ++i) amax = std::max(amax, std::fabs(static_cast<double>(block[i])));
          for (int i = 0; i < 32; ++i) {
            int byte = 0;
            wrong += a->code(m, b * 32 + i) != mxint8_by_definition(static_cast<double>(block[i]), amax, byte);
            wrong += a->scale_byte(m, b) != byte;
          }
        }
      CAPTURE(rows, exponent);
      REQUIRE(wrong == 0);
    }
}

namespace {

/// A block under residual2 or residual3 against its definition in double; gives the number of differences.
int wrong_terms(const int8_activations& a, std::int64_t row, std::int64_t b, const float* block) {
  double left[32], amax = 0;
  for (int i = 0; i < 32; ++i) {
    left[i] = static_cast<double>(block[i]);
    amax = std::max(amax, std::fabs(left[i]));
  }
  int wrong = 0, before = 0;
  for (int term = 0; term < a.terms(); ++term) {
    double largest = 0;
    int byte = 0;
    for (const double v : left) largest = std::max(largest, std::fabs(v));
    static_cast<void>(mxint8_by_definition(0.0, largest, byte));
    if (term > 0) byte = std::max(largest == 0 ? 0 : byte, std::max(before - 8, 0));
    wrong += a.scale_byte(row, b, term) != byte;
    for (int i = 0; i < 32; ++i) {
      const double q = std::fmin(std::fmax(std::nearbyint(std::ldexp(left[i], 133 - byte)), -127), 127);
      wrong += a.code(row, b * 32 + i, term) != static_cast<int>(q);
      left[i] -= std::ldexp(q, byte - 133);
    }
    before = byte;
  }
  const double bound = std::max(std::ldexp(amax, a.terms() == 2 ? -13 : -20), 0x1p-133);
  for (const double v : left) wrong += !(std::fabs(v) <= bound);
  return wrong;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("residual2 and residual3: the terms of the definition, and the documented bound",
                        "[int8][property]", mxfp4::test::arches) {
  test::splitmix random(6);
  for (const int8_scaling scaling : {int8_scaling::residual2, int8_scaling::residual3})
    for (const std::int64_t rows : {1, 2, 3, 5, 6, 8, 9, 13})
      for (int exponent = 0; exponent <= 254; exponent += rows == 1 ? 1 : 37) {
        std::vector<float> x(static_cast<std::size_t>(rows * 96));
        for (float& v : x) v = random.with_exponent(std::max(exponent - 9, 0), exponent);
        for (std::size_t i = 32; i < 64; ++i) x[i] = 0.0f;  // one number alone, and so much smaller ones beside it
        x[32] = random.with_exponent(exponent, exponent);
        for (std::size_t i = 33; exponent > 0 && i < 48; ++i) x[i] = random.with_exponent(0, exponent);
        for (std::size_t i = 64; i < 96; ++i)  // codes that are clamped, ties, and what is exact
          x[i] = std::ldexp((i % 2 == 0 ? 1.0f : -1.0f) * (2.0f - static_cast<float>(i - 63) * 0x1p-9f),
                            std::max(exponent, 1) - 127);
        const result<int8_activations> a = quantize_activations<TestType>(view_of(x, rows), scaling);
        int wrong = 0;
        for (std::int64_t m = 0; m < rows; ++m)
          for (std::int64_t b = 0; b < 3; ++b) wrong += wrong_terms(*a, m, b, x.data() + m * 96 + b * 32);
        CAPTURE(static_cast<int>(scaling), rows, exponent);
        REQUIRE(wrong == 0);
      }
}

TEST_CASE("residual2 and residual3: named situations", "[int8][golden]") {
  struct row {
    float x, amax;
    int codes[3], bytes[3];
    const char* why;
  };
  constexpr row rows[] = {
      {1.0f, 1.0f, {64, 0, 0}, {127, 119, 111}, "exact: the next scales are 2^-8 and 2^-16"},
      {0x1.01p-1f, 1.0f, {32, 32, 0}, {127, 119, 111}, "the second term has what the first leaves"},
      {-0x1.01008p-1f, 1.0f, {-32, -32, -16}, {127, 119, 111}, "a third one"},
      {0x1p-7f, 1.0f, {0, 64, 0}, {127, 120, 112}, "half a step left: one binade more"},
      {0x3p-7f, 1.0f, {2, -64, 0}, {127, 120, 112}, "rounded up: the rest is negative"},
      {1.9999999f, 1.9999999f, {127, 127, 127}, {127, 120, 113}, "clamped: a whole step left, each time"},
      {0x1p-133f, 0x1p-133f, {1, 0, 0}, {0, 0, 0}, "byte 0: there is no smaller one"},
      {0x1p-127f, 0x1p-120f, {0, 64, 0}, {7, 0, 0}, "byte 7: half a step"},
      {0x1p-30f, 1.0f, {0, 0, 0}, {127, 119, 111}, "no scale of its own size: the third has steps of 2^-22"},
  };
  for (const auto& [x, amax, codes, bytes, why] : rows) {
    CAPTURE(x, amax, why);
    std::vector<float> block(32, 0.0f);
    block[0] = amax;
    block[17] = x;
    const auto a = quantize_activations(view_of(block, 1), int8_scaling::residual3);
    const auto two = quantize_activations(view_of(block, 1), int8_scaling::residual2);
    for (int term = 0; term < 3; ++term) {
      CAPTURE(term);
      CHECK(a->code(0, 17, term) == codes[term]);
      CHECK(a->scale_byte(0, 0, term) == bytes[term]);
      CHECK(a->scale(0, 0, term) == std::ldexp(1.0, bytes[term] - 133));
      if (term < 2) CHECK(two->code(0, 17, term) == codes[term]);
      if (term < 2) CHECK(two->scale_byte(0, 0, term) == bytes[term]);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("f32 and row: the codes of the definition, within half a step", "[int8][property]",
                        mxfp4::test::arches) {
  test::splitmix random(4);
  for (int exponent = 0; exponent <= 254; ++exponent) {
    std::vector<float> x(96);
    for (float& v : x) v = random.with_exponent(std::max(exponent - 9, 0), exponent);
    for (const int8_scaling scaling : {int8_scaling::f32, int8_scaling::row}) {
      const result<int8_activations> a = quantize_activations<TestType>(view_of(x, 1), scaling);
      int wrong = 0;
      for (std::int64_t b = 0; b < 3; ++b) {
        float block[32], amax = 0;
        for (std::int64_t i = 0; i < 96; ++i)
          if (scaling == int8_scaling::row || i / 32 == b)
            amax = std::max(amax, std::fabs(x[static_cast<std::size_t>(i)]));
        for (std::int64_t i = 0; i < 32; ++i) block[i] = x[static_cast<std::size_t>(b * 32 + i)];
        const auto defined = mxfp4::detail::encode_int8(block, mxfp4::detail::int8_inverse_scale(amax));
        for (std::int64_t i = 0; i < 32; ++i) {
          const int code = a->code(0, b * 32 + i);
          wrong += code != defined.code[i];
          const double exact = static_cast<double>(block[i]), step = a->scale(0, b);
          if (amax >= 0x1p-118f) wrong += !(std::fabs(code * step - exact) <= 0.50001 * step);
          else wrong += code != 0;
        }
      }
      CAPTURE(exponent, static_cast<int>(scaling));
      REQUIRE(wrong == 0);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("bf16 and f16 give what their floats give", "[int8][property]", mxfp4::test::arches) {
  test::splitmix random(5);
  std::vector<bf16> brain(64 * 5);
  std::vector<f16> half(64 * 5);
  std::vector<float> brain_wide, half_wide;
  for (bf16& v : brain) brain_wide.push_back(decode(v = encode_bf16(random.with_exponent(100, 140))));
  for (f16& v : half) half_wide.push_back(decode(v = encode_f16(random.with_exponent(100, 141))));
  for (const int8_scaling scaling : every_scaling) {
    const auto b = quantize_activations<TestType>(dense_view<const bf16>{brain.data(), 5, 64, 64}, scaling);
    const auto h = quantize_activations<TestType>(dense_view<const f16>{half.data(), 5, 64, 64}, scaling);
    const auto b_wide = quantize_activations<TestType>(view_of(brain_wide, 5), scaling);
    const auto h_wide = quantize_activations<TestType>(view_of(half_wide, 5), scaling);
    int wrong = 0;
    for (std::int64_t m = 0; m < 5; ++m)
      for (std::int64_t k = 0; k < 64; ++k)
        wrong += b->code(m, k) != b_wide->code(m, k) || h->code(m, k) != h_wide->code(m, k) ||
                 b->scale(m, k / 32) != b_wide->scale(m, k / 32) || h->scale(m, k / 32) != h_wide->scale(m, k / 32);
    REQUIRE(wrong == 0);
  }
}

TEST_CASE("int8: NaN, infinity, zeros", "[int8][golden]") {
  std::vector<float> x(3 * 64, 1.0f);
  x[5] = not_a_number;
  x[64 + 40] = -infinity;
  for (std::size_t i = 128; i < 192; ++i) x[i] = i % 2 == 0 ? 0.0f : -0.0f;
  for (const int8_scaling scaling : every_scaling) {
    const result<int8_activations> a = quantize_activations(view_of(x, 3), scaling);
    CHECK(std::isnan(a->scale(0, 0)));
    CHECK(std::isnan(a->scale(1, 1)));
    CHECK(std::isnan(a->scale(0, 1)) == (scaling == int8_scaling::row));
    CHECK(a->code(0, 5) == 0);
    CHECK(a->code(0, 6) == 0);
    CHECK(a->code(1, 0) == (scaling == int8_scaling::row ? 0 : scaling == int8_scaling::f32 ? 127 : 64));
    CHECK(a->code(2, 1) == 0);
    CHECK(a->scale(2, 0) == (scaling == int8_scaling::f32 || scaling == int8_scaling::row ? 1.0 : 0x1p-6));
    for (int term = 1; term < a->terms(); ++term) {
      CHECK(std::isnan(a->scale(0, 0, term)));
      CHECK(a->code(0, 5, term) == 0);
      CHECK(a->code(0, 6, term) == 0);
      CHECK(a->code(2, 1, term) == 0);
    }
    CHECK(std::isnan(a->finish(0)[0]));
    CHECK(std::isnan(a->finish(0)[1]));
    CHECK(a->finish(0)[2] == 1.0f);
  }
}

TEST_CASE("int8_activations: reuse, strides, bad input, guard page", "[int8][bad_input]") {
  result<int8_activations> made = int8_activations::create(2, 64);
  int8_activations a = *std::move(made);
  CHECK(made->rows() == 0);
  std::vector<float> x(2 * 70, 3.0f), once(2 * 64, 1.0f);
  REQUIRE(quantize_activations(dense_view<const float>{x.data(), 2, 64, 70}, a).ok());
  CHECK(a.code(1, 63) == 96);
  REQUIRE(quantize_activations(view_of(once, 2), a).ok());
  CHECK(a.code(1, 63) == 64);
  CHECK(a.scale_byte(1, 1) == 127);
  CHECK(quantize_activations(view_of(x, 1), a).code == errc::shape_mismatch);
  CHECK(quantize_activations(dense_view<const float>{nullptr, 2, 64, 64}, a).code == errc::null_pointer);
  CHECK(quantize_activations(dense_view<const float>{x.data(), 2, 64, 63}, a).code == errc::stride_too_small);
  CHECK(a.code(1, 63) == 64);
  const auto* const inside = static_cast<const float*>(a.bytes().begin);
  CHECK(quantize_activations(dense_view<const float>{inside, 2, 64, 64}, a).code == errc::overlap);
  CHECK(int8_activations::create(1, 33).error().code == errc::not_blocks);
  CHECK(int8_activations::create(-1, 32).error().code == errc::negative_size);
  CHECK(int8_activations::create(std::int64_t{1} << 50, 1 << 20).error().code == errc::size_overflow);
  CHECK(int8_activations::create(std::int64_t{1} << 40, 1 << 10).error().code == errc::out_of_memory);
  CHECK(int8_activations::create(0, 32)->groups() == 0);
  const page_end<float> end(3 * 32);
  for (std::int64_t i = 0; i < 96; ++i) end.data()[i] = 1.0f;
  CHECK(quantize_activations(dense_view<const float>{end.data(), 3, 32, 32}, int8_scaling::row)->code(2, 31) == 127);
}
