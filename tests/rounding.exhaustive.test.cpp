// tests/rounding.exhaustive.test.cpp -- number to FP4 code against nearest-by-distance, which knows no boundaries.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "mxfp4/format/rounding.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"
#include "support/sweep.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

constexpr unsigned below_quarter = 0x3E7FFFFFu;  // 0.25 less one ulp, microxcaling's defect

template <class T>
bool encodes_right(T x, T negative, double magnitude) {
  const fp4_place place = place_fp4(magnitude);
  const auto right = [&]<class Round>(Round, tie how) {
    const unsigned code = round_fp4(place, how);
    return encode_e2m1<Round>(x) == static_cast<e2m1>(code) &&
           encode_e2m1<Round>(negative) == static_cast<e2m1>(code | 8u);
  };
  return right(nearest_even{}, tie::even) && right(nearest_away{}, tie::away) &&
         right(nearest_toward_zero{}, tie::toward_zero) && right(nearest_finite{}, tie::toward_zero) &&
         right(toward_zero{}, tie::truncate);
}

/// Both signs of the float with the magnitude bits `i`; a NaN is nearest to nothing and has its own test.
bool float_encodes_right(std::uint64_t i) {
  const auto bits = static_cast<std::uint32_t>(i);
  const float x = as_float(bits);
  return encodes_right(x, as_float(bits | 0x80000000u), static_cast<double>(x));
}

constexpr std::uint64_t infinity = 0x7F800000u;

}  // namespace

TEST_CASE("e2m1 encode of floats: near every value and midpoint, and across the range", "[rounding][exhaustive]") {
  for (int quarters = 1; quarters <= 32; ++quarters) {
    const std::uint64_t at = as_bits(static_cast<float>(quarters) / 4.0f);
    CAPTURE(quarters);
    CHECK(sweep_each(at - 20'000, at + 20'000, float_encodes_right) == none);
  }
  CHECK(sweep_each(0, 50'000, float_encodes_right) == none);
  CHECK(sweep_each(infinity - 50'000, infinity + 1, float_encodes_right) == none);
  CHECK(sweep_each(0, infinity + 1, float_encodes_right, 4093) == none);
}

TEST_CASE("e2m1 encode of all 2^32 floats", "[rounding][exhaustive][.slow]") {
  CHECK(sweep_each(0, infinity + 1, float_encodes_right) == none);
  const auto nan_saturates = [](std::uint64_t i) {
    const auto bits = static_cast<std::uint32_t>(i);
    const float x = as_float(bits), y = as_float(bits | 0x80000000u);
    return encode_e2m1<nearest_even>(x) == e2m1{7} && encode_e2m1<nearest_even>(y) == e2m1{15} &&
           encode_e2m1<toward_zero>(x) == e2m1{7} && encode_e2m1<toward_zero>(y) == e2m1{15};
  };
  CHECK(sweep_each(infinity + 1, 0x80000000u, nan_saturates) == none);
}

TEST_CASE("e2m1 encode of doubles: random, and near every midpoint", "[rounding][exhaustive]") {
  const auto right = [](double magnitude) { return encodes_right(magnitude, -magnitude, magnitude); };
  splitmix random(2);
  findings found;
  for (std::uint64_t i = 0; i < 2'000'000; ++i) {
    const std::uint64_t exponent = static_cast<std::uint64_t>(i % 4 == 0 ? random.in(0, 2046) : random.in(1018, 1026));
    const std::uint64_t bits = exponent << 52 | random.next() >> 12;
    double x = 0;
    std::memcpy(&x, &bits, sizeof x);
    found.expect(right(x), bits);
  }
  CHECK(found == none);
  for (int quarters = 1; quarters <= 32; ++quarters) {
    const double centre = quarters / 4.0;
    std::uint64_t at = 0;
    std::memcpy(&at, &centre, sizeof at);
    findings near;
    for (std::uint64_t bits = at - 2000; bits <= at + 2000; ++bits) {
      double x = 0;
      std::memcpy(&x, &bits, sizeof x);
      near.expect(right(x), bits);
    }
    CAPTURE(quarters);
    CHECK(near == none);
  }
}

TEST_CASE("e2m1 encode of every bf16, f16 and e4m3", "[rounding][exhaustive]") {
  const auto every = [](const std::vector<double>& values, auto make, unsigned sign) {
    findings found;
    for (unsigned code = 0; code + 1 < values.size(); ++code)
      found.expect(encodes_right(make(code), make(code | sign), values[code]), code);
    return found;
  };
  CHECK(every(
            bf16_values(), [](unsigned c) { return static_cast<bf16>(c); }, 0x8000u) == none);
  CHECK(every(
            f16_values(), [](unsigned c) { return static_cast<f16>(c); }, 0x8000u) == none);
  CHECK(every(
            e4m3_values(), [](unsigned c) { return static_cast<e4m3>(c); }, 0x80u) == none);
}

TEST_CASE("the quarter defect touches nothing else", "[rounding][exhaustive]") {
  const auto right = [](std::uint64_t i) {
    const float x = as_float(static_cast<std::uint32_t>(i));
    const unsigned plain = round_fp4(place_fp4(static_cast<double>(x)), tie::even);
    return encode_e2m1<with_quarter_defect<nearest_even>>(x) == static_cast<e2m1>(i == below_quarter ? 1u : plain);
  };
  CHECK(sweep_each(below_quarter - 100'000, below_quarter + 100'000, right) == none);
  CHECK(sweep_each(0, infinity, right, 65'521) == none);
}

namespace {

/// Code of +-x under `byte` by the zero rule, where x is the float with the magnitude bits `i`.
template <class Zero>
e2m1 code_under(int byte, std::uint32_t bits) {
  return encode_bits<Zero>(bits, make_boundaries<nearest_even, Zero>(static_cast<e8m0>(byte)));
}

/// Is x / 2^(byte - 127), rounded to T, zero? By the quotient itself, which a double holds.
template <class T>
bool quotient_is_zero(int byte, std::uint32_t magnitude) {
  const double quotient = std::ldexp(static_cast<double>(as_float(magnitude)), 127 - byte);
  if constexpr (std::is_same_v<T, float>)
    return !(quotient > 0x1p-150);  // half of the smallest float is a tie: even is 0
  else return nearest_index(std::is_same_v<T, f16> ? f16_values() : bf16_values(), quotient) == 0;
}

bool zero_rules_right(int byte, std::uint32_t magnitude) {
  const double in_units = std::ldexp(static_cast<double>(as_float(magnitude)), 127 - byte);
  const unsigned code = round_fp4(place_fp4(in_units), tie::even);
  const std::uint32_t negative = magnitude | 0x80000000u;
  const auto is = [](e2m1 ours, unsigned expected) { return ours == static_cast<e2m1>(expected); };
  const auto of_quotient = [&]<class T>(T) {
    const unsigned signed_code = quotient_is_zero<T>(byte, magnitude) ? code : code | 8u;
    return is(code_under<sign_of_quotient<T>>(byte, negative), signed_code) &&
           is(code_under<sign_of_quotient<T>>(byte, magnitude), code);
  };
  return is(code_under<keep_sign>(byte, negative), code | 8u) && is(code_under<keep_sign>(byte, magnitude), code) &&
         is(code_under<no_negative_zero>(byte, negative), code == 0 ? 0 : code | 8u) &&
         is(code_under<no_negative_zero>(byte, magnitude), code) &&
         is(code_under<zero_is_code_8>(byte, negative), code | 8u) &&
         is(code_under<zero_is_code_8>(byte, magnitude), quotient_is_zero<float>(byte, magnitude) ? 8u : code) &&
         of_quotient(float{}) && of_quotient(bf16{}) && of_quotient(f16{});
}

}  // namespace

TEST_CASE("the sign of zero under every scale byte", "[rounding][exhaustive]") {
  findings found;
  splitmix random(27);
  for (int byte = 0; byte < 255; ++byte) {
    const auto check = [&](std::uint32_t magnitude) {
      found.expect(zero_rules_right(byte, magnitude), std::uint64_t{static_cast<unsigned>(byte)} << 32 | magnitude);
    };
    for (std::uint32_t i = 0; i < 4; ++i) check(i);
    // the smallest value, and half of it, of f32, bf16 and f16, and the first boundary
    for (const int exponent : {-150, -149, -134, -133, -25, -24, -2})
      if (const double at = std::ldexp(1.0, exponent + byte - 127); at >= 0x1p-149 && at < 0x1p128) {
        const std::uint32_t bits = as_bits(static_cast<float>(at));
        for (std::uint32_t near = bits < 3 ? 0 : bits - 3; near <= bits + 3; ++near) check(near);
      }
    for (int i = 0; i < 200; ++i) check(as_bits(random.with_exponent(0, std::min(byte + 3, 254))) & 0x7FFFFFFFu);
  }
  CHECK(found == none);
}
