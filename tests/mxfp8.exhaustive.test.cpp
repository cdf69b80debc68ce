// tests/mxfp8.exhaustive.test.cpp -- MXFP8 blocks: scales against log2 and a division, elements against the nearest
// value of a list, decoding against ldexp.
//
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/format/mxfp8.hpp"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "support/oracle.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4;
using test::as_bits;
using test::as_float;
using test::splitmix;
constexpr mxfp8_scaling scalings[] = {mxfp8_scaling::floor, mxfp8_scaling::rceil};

/// A block whose largest magnitude is `amax`, in a place that depends on it.
mxfp8_block encode_with(float amax, mxfp8_scaling scaling) {
  float x[32]{};
  x[as_bits(amax) % 32] = (as_bits(amax) & 32u) != 0 ? -amax : amax;
  return encode_mxfp8(x, scaling);
}

/// OCP MX v1.0, 6.3: floor(log2 amax) - 8, no smaller than the smallest scale.
int floor_byte(float amax) { return std::max(std::ilogb(static_cast<double>(amax)) - 8 + 127, 0); }

/// The smallest power of two that is not below amax / 448 as a float.
int rceil_byte(float amax) {
  const auto quotient = static_cast<double>(amax / 448.0f);
  int byte = 0;
  while (std::ldexp(1.0, byte - 127) < quotient) ++byte;
  return byte;
}

/// The e4m3 code nearest to x / 2^(byte - 127), by distances.
unsigned nearest_element(float x, int byte) {
  const double scaled = std::ldexp(std::fabs(static_cast<double>(x)), 127 - byte);
  const std::size_t index = test::nearest_index(test::e4m3_values(), scaled);
  return static_cast<unsigned>(index > 0x7E ? 0x7E : index) | (std::signbit(x) ? 0x80u : 0u);
}

}  // namespace

TEST_CASE("mxfp8 scale: named situations", "[mxfp8][golden]") {
  struct row {
    float amax;
    int floor, rceil;
    const char* why;
  };
  const row rows[] = {
      {448.0f, 127, 127, "the largest element under scale 1"},
      {0x1.c00002p8f, 127, 128, "one ulp above it: floor saturates, rceil does not"},
      {0x1.fffffep8f, 127, 128, "just below 512"},
      {512.0f, 128, 128, "a power of two"},
      {256.0f, 127, 127, "the next lower one"},
      {1.0f, 119, 119, "1 is 256 * 2^-8"},
      {1.75f, 119, 119, "448 * 2^-8"},
      {1.76f, 119, 120, "a little more"},
      {0x1.fffffep127f, 246, 247, "the largest float"},
      {0x1p-119f, 0, 0, "256 under the smallest scale"},
      {0x1.cp-119f, 0, 0, "448 under the smallest scale"},
      {0x1.c00002p-119f, 0, 0, "the quotient rounds to 2^-127"},
      {0x1.c00004p-119f, 0, 1, "and here it does not"},
      {0x1.c00002p-118f, 1, 2, "a normal quotient is rounded up at once"},
      {0x1p-120f, 0, 0, "below the range of scales"},
      {0x1p-149f, 0, 0, "the smallest subnormal"},
      {0.0f, 0, 0, "zeros"},
      {std::numeric_limits<float>::infinity(), 255, 255, "infinity"},
      {std::numeric_limits<float>::quiet_NaN(), 255, 255, "NaN"},
  };
  for (const auto& [amax, floor, rceil, why] : rows) {
    CAPTURE(amax, why);
    CHECK(static_cast<int>(encode_with(amax, mxfp8_scaling::floor).scale) == floor);
    CHECK(static_cast<int>(encode_with(amax, mxfp8_scaling::rceil).scale) == rceil);
  }
}

TEST_CASE("mxfp8 scale: every exponent, mantissas in steps and round the threshold", "[mxfp8][exhaustive]") {
  std::vector<std::uint32_t> mantissas;
  for (std::uint32_t m = 0; m < 0x800000u; m += 0x7FFFu) mantissas.push_back(m);
  for (const std::uint32_t at : {0x000000u, 0x600000u, 0x7FFFF8u})
    for (std::uint32_t m = at < 8 ? 0 : at - 8; m < at + 8 && m < 0x800000u; ++m) mantissas.push_back(m);
  std::int64_t wrong = 0;
  for (std::uint32_t exponent = 0; exponent < 255; ++exponent)
    for (const std::uint32_t m : mantissas) {
      const float amax = as_float(exponent << 23 | m);
      if (amax == 0.0f) continue;
      wrong += static_cast<int>(encode_with(amax, mxfp8_scaling::floor).scale) != floor_byte(amax);
      wrong += static_cast<int>(encode_with(amax, mxfp8_scaling::rceil).scale) != rceil_byte(amax);
    }
  CHECK(wrong == 0);
}

TEST_CASE("mxfp8 elements: every midpoint and its neighbours under every scale", "[mxfp8][exhaustive]") {
  const std::vector<double>& values = test::e4m3_values();
  std::int64_t wrong = 0;
  for (int byte = 0; byte <= 246; ++byte)
    for (std::size_t i = 0; i < 0x7E; ++i)
      for (const double at : {values[i], (values[i] + values[i + 1]) / 2, values[i + 1]}) {
        const auto middle = static_cast<float>(std::ldexp(at, byte - 127));
        for (const float x : {std::nextafter(middle, 0.0f), middle, std::nextafter(middle, 3e38f)}) {
          float block[32]{};  // led by 300 under this scale, which floor(log2) - 8 then chooses
          block[0] = static_cast<float>(std::ldexp(300.0, byte - 127));
          block[5] = x;
          block[9] = -x;
          if (std::fabs(x) >= std::ldexp(512.0, byte - 127)) continue;
          const mxfp8_block b = encode_mxfp8(block);
          wrong += static_cast<int>(b.scale) != byte;
          wrong += static_cast<unsigned>(b.element[5]) != nearest_element(x, byte);
          wrong += static_cast<unsigned>(b.element[9]) != nearest_element(-x, byte);
        }
      }
  CHECK(wrong == 0);
}

TEST_CASE("mxfp8 blocks: random numbers of all magnitudes", "[mxfp8][property]") {
  splitmix random(41);
  std::int64_t wrong = 0, saturated[2]{};
  for (int trial = 0; trial < 20000; ++trial) {
    float x[32];
    const int top = random.in(0, 254), spread = random.in(0, 24);
    for (float& v : x) v = random.with_exponent(std::max(top - spread, 0), top);
    float amax = 0;
    for (const float v : x) amax = std::max(amax, std::fabs(v));
    for (const mxfp8_scaling scaling : scalings) {
      const mxfp8_block b = encode_mxfp8(x, scaling);
      const int byte = scaling == mxfp8_scaling::floor ? floor_byte(amax) : rceil_byte(amax);
      wrong += static_cast<int>(b.scale) != byte;
      for (int i = 0; i < 32; ++i) {
        wrong += static_cast<unsigned>(b.element[i]) != nearest_element(x[i], byte);
        saturated[static_cast<int>(scaling)] += std::fabs(static_cast<double>(x[i])) > std::ldexp(448.0, byte - 127);
      }
    }
  }
  CHECK(wrong == 0);
  CHECK(saturated[0] > 0);
  CHECK(saturated[1] == 0);
}

TEST_CASE("mxfp8 blocks: NaN, infinity, zeros, small types", "[mxfp8][special]") {
  for (const float odd : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    float x[32];
    for (float& v : x) v = 7.0f;
    x[31] = odd;
    for (const mxfp8_scaling scaling : scalings) CHECK(encode_mxfp8(x, scaling) == mxfp8_block{e8m0::nan, {}});
  }
  float zeros[32]{};
  zeros[3] = -0.0f;
  mxfp8_block expected{e8m0{0}, {}};
  expected.element[3] = e4m3{0x80};
  CHECK(encode_mxfp8(zeros) == expected);
  bf16 halves[32];
  f16 small[32];
  float wide[32];
  for (int i = 0; i < 32; ++i) {
    halves[i] = encode_bf16(static_cast<float>(i - 9) * 0.75f);
    small[i] = encode_f16(static_cast<float>(i - 9) * 0.75f);
    wide[i] = static_cast<float>(i - 9) * 0.75f;
  }
  CHECK((encode_mxfp8(halves) == encode_mxfp8(wide) && encode_mxfp8(small) == encode_mxfp8(wide)));
}

TEST_CASE("mxfp8 decode: every element under every scale byte", "[mxfp8][exhaustive]") {
  const std::vector<double>& values = test::e4m3_values();
  std::int64_t wrong = 0;
  for (unsigned byte = 0; byte < 256; ++byte)
    for (unsigned element = 0; element < 256; ++element) {
      const float got = decode(static_cast<e4m3>(element), static_cast<e8m0>(byte));
      if (byte == 255 || (element & 0x7Fu) == 0x7Fu) {
        wrong += !std::isnan(got);
        continue;
      }
      const double magnitude = std::ldexp(values[element & 0x7Fu], static_cast<int>(byte) - 127);
      const bool overflows = magnitude >= 0x1p128;
      const auto expected = overflows ? std::numeric_limits<float>::infinity() : static_cast<float>(magnitude);
      wrong += static_cast<double>(expected) != magnitude && !overflows;  // exact, always
      wrong += as_bits(got) != (as_bits(expected) | (element & 0x80u) << 24);
    }
  CHECK(wrong == 0);
}
