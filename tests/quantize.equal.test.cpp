// tests/quantize.equal.test.cpp -- whole tensors: the bytes of encode_block, the numbers of the format's formula.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/reference/quantize.hpp"
#include "mxfp4/tensor/encode_row.hpp"

#include <algorithm>
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "mxfp4/format/block.hpp"
#include "support/matrix.hpp"
#include "support/oracle.hpp"

namespace {

using namespace mxfp4;
using mxfp4::test::guarded_bytes;
using mxfp4::test::layouts;
using mxfp4::test::mx_memory;
using mxfp4::test::splitmix;

/// rows x stride elements: ordinary numbers, and now and then any bit pattern at all.
template <class T>
std::vector<T> random_matrix(std::int64_t rows, std::int64_t stride, splitmix& random) {
  std::vector<T> w(static_cast<std::size_t>(rows * stride));
  for (T& x : w) {
    const bool any = random.between(0, 99) == 0;
    x = any ? mxfp4::test::from_bits<T>(random.next())
            : encode<T>(std::ldexp(static_cast<float>(random.between(-1000, 1000)),
                                   static_cast<int>(random.between(-16, -6))));
  }
  return w;
}

template <class Layout>
std::int64_t differences(mx_memory<Layout>& m, std::int64_t row, std::int64_t b, const block& expected) {
  std::int64_t count = m.scale(row, b) != static_cast<std::uint8_t>(expected.scale);
  for (int i = 0; i < 32; ++i)
    count += m.code(row, 32 * b + i) !=
             (i % 2 == 0 ? expected.codes[i / 2] & 15u : static_cast<unsigned>(expected.codes[i / 2]) >> 4);
  return count;
}

/// encode_block by a recipe's number: one copy for all layouts, of which each would take seconds to compile.
template <class T>
block encoded(recipe_id id, const T (&x)[32]) {
  block b{};
  REQUIRE(visit_recipe(id, [&]<class R>() { b = encode_block<R>(x); }));
  return b;
}

template <class T, class Layout>
void check_all_recipes() {
  constexpr std::int64_t rows = 5, cols = 160, stride = cols + 7;
  splitmix random(3);
  const std::vector<T> w = random_matrix<T>(rows, stride, random);
  const dense_view<const T> view{w.data(), rows, cols, stride};
  for (int id = 0; id < recipe_count; ++id) {
    CAPTURE(recipe_name(static_cast<recipe_id>(id)), Layout::name);
    mx_memory<Layout> out(rows, cols, 3, 1);
    REQUIRE(reference::quantize(static_cast<recipe_id>(id), view, out.view()).ok());
    REQUIRE(out.only_its_own_bytes_were_written());
    std::int64_t wrong = 0;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t b = 0; b < cols / 32; ++b) {
        T x[32];
        for (std::size_t i = 0; i < 32; ++i) x[i] = w[static_cast<std::size_t>(r * stride + 32 * b) + i];
        wrong += differences(out, r, b, encoded(static_cast<recipe_id>(id), x));
      }
    REQUIRE(wrong == 0);
  }
}

// ---- independent arithmetic: ldexp and nearbyint in double ----------------------------------------------------------

/// x rounded to nearest even to `digits` significant bits, exponents from `emin` on; x is far below the overflow.
double round_to(double x, int digits, int emin) {
  if (x == 0.0 || !std::isfinite(x)) return x;
  const int ulp = std::max(std::ilogb(x), emin) - (digits - 1);
  return std::ldexp(std::nearbyint(std::ldexp(x, -ulp)), ulp);
}

/// The weight as double; NaN for a NaN block.
template <class Dialect>
double weight_of(unsigned code, int byte) {
  const double magnitude = mxfp4::test::fp4_values[code & 7u];
  if (byte == 255 && std::string(Dialect::name) == "ocp") return std::numeric_limits<double>::quiet_NaN();
  if (byte == 255 && std::string(Dialect::name) == "inf_at_255") {
    if (magnitude == 0.0) return std::numeric_limits<double>::quiet_NaN();
    return code >= 8 ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  }
  if (code == 8 && std::string(Dialect::name) == "ggml") return 0.0;
  const double value = std::ldexp(magnitude, byte - 127);
  return code >= 8 ? -value : value;
}

/// bits of `x` in T, to nearest even; overflow is infinity.
template <class T>
std::uint32_t bits_of(double x) {
  const std::uint32_t sign = std::signbit(x) ? 1u : 0u;
  const double magnitude = std::fabs(x);
  if constexpr (std::same_as<T, f16>) {
    if (magnitude >= 65520.0) return sign << 15 | 0x7C00u;
    const double rounded = round_to(magnitude, 11, -14);
    if (rounded < 0x1p-14) return sign << 15 | static_cast<std::uint32_t>(std::ldexp(rounded, 24));
    const int e = std::ilogb(rounded);
    const auto significand = static_cast<std::uint32_t>(std::ldexp(rounded, 10 - e));  // 1024..2047
    return sign << 15 | static_cast<std::uint32_t>(e + 15) << 10 | (significand - 1024);
  } else {
    const std::uint32_t f32 =
        magnitude >= 0x1p128 ? sign << 31 | 0x7F800000u : std::bit_cast<std::uint32_t>(static_cast<float>(x));
    return std::same_as<T, bf16> ? f32 >> 16 : f32;
  }
}

template <class T>
std::uint32_t stored_bits(T x) {
  if constexpr (std::same_as<T, float>) return std::bit_cast<std::uint32_t>(x);
  else return static_cast<std::uint32_t>(x);
}

template <class Dialect, class T, class Layout>
void check_dequantize() {
  mx_memory<Layout> w(257, 64, 2, 1);  // row = scale byte; every code twice in a block; one odd row
  for (int row = 0; row < 257; ++row)
    for (int b = 0; b < 2; ++b) {
      w.scale(row, b) = static_cast<std::uint8_t>(row + b);
      for (int k = 0; k < 32; ++k) w.set_code(row, 32 * b + k, static_cast<unsigned>(7 * k + b) % 16);
    }
  constexpr std::int64_t stride = 71;
  const T untouched = mxfp4::test::from_bits<T>(0xA5A5A5A5u);
  std::vector<T> out(257 * stride, untouched);
  REQUIRE(reference::dequantize<Dialect>(w.view(), dense_view<T>{out.data(), 257, 64, stride}).ok());
  std::int64_t wrong = 0;
  for (int row = 0; row < 257; ++row)
    for (int k = 0; k < stride; ++k) {
      const T got = out[static_cast<std::size_t>(row * stride + k)];
      if (k >= 64) {
        wrong += stored_bits(got) != stored_bits(untouched);
        continue;
      }
      const double expected = weight_of<Dialect>(w.code(row, k), w.scale(row, k / 32));
      if (std::isnan(expected)) wrong += !std::isnan(decode(got));
      else wrong += stored_bits(got) != bits_of<T>(expected);
    }
  CAPTURE(Dialect::name, Layout::name);
  CHECK(wrong == 0);
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("quantize: every recipe and type equals encode_block", "[quantize][property]", layouts) {
  check_all_recipes<float, TestType>();
  check_all_recipes<bf16, TestType>();
  check_all_recipes<f16, TestType>();
  check_all_recipes<e4m3, TestType>();
}

TEST_CASE("quantize: literal bytes", "[quantize][golden]") {
  float w[32] = {6.0f, -3.0f, 0.5f, -0.0f, 5.0f, 0.25f, 1.75f, 2.5f};
  std::uint8_t codes[16], scale = 0;
  const mx_view<> out{codes, &scale, 1, 32, 16, 1};
  SECTION("the default is ocp") { REQUIRE(reference::quantize(dense_view<const float>{w, 1, 32, 32}, out).ok()); }
  SECTION("a mutable source") { REQUIRE(reference::quantize(dense_view<float>{w, 1, 32, 32}, out).ok()); }
  SECTION("by number") {
    REQUIRE(reference::quantize(recipe_id::ocp, dense_view<const float>{w, 1, 32, 32}, out).ok());
  }
  CHECK(scale == 127);
  const std::uint8_t expected[16] = {0xD7, 0x81, 0x06, 0x44};
  for (int i = 0; i < 16; ++i) CHECK(int{codes[i]} == int{expected[i]});
}

TEST_CASE("quantize_fp8: a weight is bf16(w * scale)", "[quantize][golden]") {
  // 1.0, 5.0, 6.0 as e4m3. 5 * (1 + 2^-9) is above the midpoint of 4 and 6, but rounds to the bf16 number 5.0: a tie.
  std::vector<e4m3> w(32, e4m3{0x38});
  w[1] = e4m3{0x4A};
  w[2] = e4m3{0xCC};
  std::uint8_t codes[16], scale_byte = 0;
  const mx_view<> out{codes, &scale_byte, 1, 32, 16, 1};
  const auto run = [&](float scale) { return reference::quantize_fp8({w.data(), 1, 32, 32}, {&scale, 1, 1, 1}, out); };
  REQUIRE(run(1.0f + 0x1p-9f).ok());
  CHECK(scale_byte == 127);
  CHECK(int{codes[0]} == 0x62);  // 5.0 -> 4, the even neighbour
  CHECK(int{codes[1]} == 0x2F);  // -6
  REQUIRE(run(1.0f + 0x1p-6f).ok());
  CHECK(int{codes[0]} == 0x72);  // 5.078 -> bf16 5.0625 -> 6
  REQUIRE(run(0x1p-10f).ok());
  CHECK(scale_byte == 117);
}

TEST_CASE("quantize_fp8: each 128 x 128 block has its own scale", "[quantize][golden]") {
  constexpr std::int64_t rows = 130, cols = 160;                           // 2 x 2 blocks, the last ones partial
  const std::vector<e4m3> w(rows * cols, e4m3{0x38});                      // 1.0
  const float scales[] = {0x1p0f, 0x1p3f, -1.0f, 0x1p-5f, 0x1p8f, -1.0f};  // stride 3
  mx_memory<layout::ggml> out(rows, cols);
  REQUIRE(reference::quantize_fp8({w.data(), rows, cols, cols}, {scales, 2, 2, 3}, out.view()).ok());
  std::int64_t wrong = 0;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t k = 0; k < cols; ++k) {
      const int expected = r < 128 ? (k < 128 ? 125 : 128) : (k < 128 ? 120 : 133);  // 2^k = 4 * 2^(byte - 127)
      wrong += out.scale(r, k / 32) != expected || out.code(r, k) != 6;
    }
  CHECK(wrong == 0);
}

TEMPLATE_LIST_TEST_CASE("quantize_fp8: equals FP8 -> BF16 -> MXFP4", "[quantize][property]", layouts) {
  constexpr std::int64_t rows = 130, cols = 160, stride = 165;
  splitmix random(4);
  std::vector<e4m3> w(rows * stride);
  for (e4m3& x : w) {
    x = static_cast<e4m3>(random.byte());
    if ((static_cast<unsigned>(x) & 0x7Fu) == 0x7Fu && random.between(0, 99) != 0)
      x = e4m3{0};  // a NaN only here and there
  }
  for (const int exponent : {-9, -120, 118}) {  // subnormal and infinite products too
    float scales[4];
    for (float& s : scales) s = std::ldexp(1.0f + std::ldexp(static_cast<float>(random.next() >> 41), -23), exponent);
    std::vector<bf16> wide(rows * cols);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t k = 0; k < cols; ++k) {
        const float weight = decode(w[static_cast<std::size_t>(r * stride + k)]);
        const float product = weight * scales[r / 128 * 2 + k / 128];  // the machine's own multiplication
        const double rounded = round_to(product, 8, -126);
        wide[static_cast<std::size_t>(r * cols + k)] =
            std::isnan(product) ? bf16{0x7FC0} : static_cast<bf16>(bits_of<bf16>(rounded));
      }
    for (int id = 0; id < recipe_count; ++id) {
      CAPTURE(exponent, recipe_name(static_cast<recipe_id>(id)));
      mx_memory<TestType> direct(rows, cols, 1, 0), by_way_of_bf16(rows, cols);
      REQUIRE(reference::quantize_fp8(static_cast<recipe_id>(id), {w.data(), rows, cols, stride}, {scales, 2, 2, 2},
                                      direct.view())
                  .ok());
      REQUIRE(reference::quantize(static_cast<recipe_id>(id), dense_view<const bf16>{wide.data(), rows, cols, cols},
                                  by_way_of_bf16.view())
                  .ok());
      REQUIRE(direct.only_its_own_bytes_were_written());
      std::int64_t wrong = 0;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t k = 0; k < cols; ++k)
          wrong += direct.code(r, k) != by_way_of_bf16.code(r, k) ||
                   direct.scale(r, k / 32) != by_way_of_bf16.scale(r, k / 32);
      REQUIRE(wrong == 0);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("dequantize: every byte and code, dialect and type", "[quantize][exhaustive]", layouts) {
  const auto all_types = []<class Dialect>(Dialect) {
    check_dequantize<Dialect, float, TestType>();
    check_dequantize<Dialect, bf16, TestType>();
    check_dequantize<Dialect, f16, TestType>();
  };
  all_types(dialect::ocp{});
  all_types(dialect::inf_at_255{});
  all_types(dialect::ggml{});
}

TEST_CASE("dequantize: the default dialect is ocp", "[quantize][golden]") {
  const std::uint8_t codes[16] = {0x18, 0xF7}, one = 128, nan = 255;
  float x[32];
  REQUIRE(reference::dequantize(const_mx_view<>{codes, &one, 1, 32, 16, 1}, dense_view<float>{x, 1, 32, 32}).ok());
  CHECK((x[0] == 0.0f && std::signbit(x[0])));
  CHECK((x[1] == 1.0f && x[2] == 12.0f && x[3] == -12.0f && x[4] == 0.0f && !std::signbit(x[4])));
  REQUIRE(reference::dequantize(const_mx_view<>{codes, &nan, 1, 32, 16, 1}, dense_view<float>{x, 1, 32, 32}).ok());
  for (const float value : x) CHECK(std::isnan(value));
}

TEST_CASE("encode_row: any length, code 0 behind the end, not a byte more", "[quantize][property]") {
  splitmix random(5);
  const std::vector<float> x = random_matrix<float>(1, 100, random);
  for (int id = 0; id < recipe_count; ++id)
    REQUIRE(visit_recipe(static_cast<recipe_id>(id), [&]<class R>() {
      for (std::int64_t n = 0; n <= 100; ++n) {
        CAPTURE(R::name, n);
        const std::int64_t blocks = n / 32 + (n % 32 != 0);
        guarded_bytes codes(16 * blocks, 1), scales(blocks);
        REQUIRE(encode_row<R>(x.data(), n, codes.data(), scales.data()).ok());
        REQUIRE((codes.margins_are_intact() && scales.margins_are_intact()));
        guarded_bytes same_codes(16 * blocks, 1), same_scales(blocks);
        REQUIRE(encode_row(recipe_id_of<R>, x.data(), n, same_codes.data(), same_scales.data()).ok());
        REQUIRE(std::equal(codes.data(), codes.data() + 16 * blocks, same_codes.data()));
        REQUIRE(std::equal(scales.data(), scales.data() + blocks, same_scales.data()));
        std::int64_t wrong = 0;
        for (std::int64_t b = 0; b < blocks; ++b) {
          float padded[32] = {};
          for (std::int64_t i = 0; i < 32 && 32 * b + i < n; ++i) padded[i] = x[static_cast<std::size_t>(32 * b + i)];
          const block expected = encode_block<R>(padded);
          wrong += scales[b] != static_cast<std::uint8_t>(expected.scale);
          for (std::int64_t i = 0; i < 32; ++i) {
            const unsigned code = static_cast<unsigned>(codes[16 * b + i / 2]) >> (4 * (i % 2)) & 15u;
            const unsigned wanted = static_cast<unsigned>(expected.codes[i / 2]) >> (4 * (i % 2)) & 15u;
            wrong += code != (32 * b + i < n ? wanted : 0u);
          }
        }
        REQUIRE(wrong == 0);
      }
    }));
}

TEST_CASE("encode_row: the padding is code 0 even where zero is code 8", "[quantize][golden]") {
  const float x[] = {0.0f, 6.0f, 0.0f};
  std::uint8_t codes[16], scale = 0;
  REQUIRE(encode_row<recipe::modelopt>(x, 3, codes, &scale).ok());
  CHECK(scale == 127);
  CHECK((codes[0] == 0x78 && codes[1] == 0x08));
  for (int i = 2; i < 16; ++i) CHECK(codes[i] == 0);
}

TEST_CASE("encode_row: is a constant expression", "[quantize]") {
  constexpr auto scale = [] {
    const float x[] = {3.0f, 6.0f};
    std::uint8_t codes[16]{}, byte = 0;
    const status s = encode_row(x, 2, codes, &byte);
    return s.ok() && codes[0] == 0x75 ? byte : std::uint8_t{0};
  }();
  STATIC_CHECK(scale == 127);
}
