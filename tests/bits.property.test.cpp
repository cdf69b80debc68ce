// tests/bits.property.test.cpp -- the integer arithmetic on floats against the machine's own.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>

#include "mxfp4/core/bits.hpp"
#include "support/oracle.hpp"
#include "support/random.hpp"
#include "support/sweep.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

bool same(float ours, float machine) {
  if (std::isnan(machine)) return as_bits(ours) == 0x7FC00000u;  // the machine's payload is not ours
  return as_bits(ours) == as_bits(machine);
}

}  // namespace

TEST_CASE("multiply is the machine's multiplication", "[bits][property]") {
  splitmix random(1);
  SECTION("any two bit patterns") {
    findings found;
    for (std::uint64_t i = 0; i < 4'000'000; ++i) {
      const float a = as_float(random.bits()), b = as_float(random.bits());
      found.expect(same(detail::multiply(a, b), a * b), i);
    }
    CHECK(found == none);
  }
  SECTION("products around the subnormal range and around overflow") {
    findings found;
    for (std::uint64_t i = 0; i < 4'000'000; ++i) {
      const int a_exponent = random.in(0, 254), sum = i % 2 == 0 ? random.in(98, 132) : random.in(376, 384);
      const int b_exponent = sum - a_exponent < 0 ? 0 : sum - a_exponent > 254 ? 254 : sum - a_exponent;
      const float a = random.with_exponent(a_exponent, a_exponent), b = random.with_exponent(b_exponent, b_exponent);
      found.expect(same(detail::multiply(a, b), a * b), i);
    }
    CHECK(found == none);
  }
  SECTION("few significant bits: ties") {
    findings found;
    for (std::uint64_t i = 0; i < 4'000'000; ++i) {
      const float a = as_float(as_bits(random.with_exponent(0, 254)) & ~0u << random.in(0, 23));
      const float b = as_float(as_bits(random.with_exponent(0, 254)) & ~0u << random.in(0, 23));
      found.expect(same(detail::multiply(a, b), a * b), i);
    }
    CHECK(found == none);
  }
  SECTION("every pair of special values") {
    const std::uint32_t special[] = {0,           1,           2,           0x007FFFFFu, 0x00800000u,
                                     0x3F800000u, 0x3FFFFFFFu, 0x40000000u, 0x7F7FFFFFu, 0x7F800000u,
                                     0x7F800001u, 0x7FC00000u, 0x7FFFFFFFu};
    for (const std::uint32_t a : special)
      for (const std::uint32_t b : special)
        for (const std::uint32_t signs : {0u, 1u, 2u, 3u}) {
          const float x = as_float(a | (signs & 1u) << 31), y = as_float(b | (signs >> 1) << 31);
          CAPTURE(a, b, signs);
          CHECK(same(detail::multiply(x, y), x * y));
        }
  }
}

TEST_CASE("pow2_bits is ldexp(1, k), zero below the smallest subnormal", "[bits][exhaustive]") {
  for (int k = -420; k <= 127; ++k) {
    CAPTURE(k);
    CHECK(detail::pow2_bits(k) == as_bits(k < -149 ? 0.0f : static_cast<float>(std::ldexp(1.0, k))));
  }
}

TEST_CASE("ldexp_bits scales every value of three significant bits", "[bits][exhaustive]") {
  CHECK(detail::ldexp_bits(0, 127) == 0);
  CHECK(detail::ldexp_bits(0, -127) == 0);
  for (const int eighths : {2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48})  // FP4 values and midpoints
    for (int k = -127; k <= 128; ++k) {
      const double exact = std::ldexp(eighths / 8.0, k);
      CAPTURE(eighths, k);
      CHECK(detail::ldexp_bits(as_bits(static_cast<float>(eighths) / 8.0f), k) ==
            (exact >= 0x1p128 ? 0x7F800000u : as_bits(static_cast<float>(exact))));
    }
}

TEST_CASE("bit_width counts up to the highest bit set", "[bits][golden]") {
  CHECK(detail::bit_width(0) == 0);
  for (int n = 0; n < 32; ++n) {
    CAPTURE(n);
    CHECK(detail::bit_width(1u << n) == n + 1);
    CHECK(detail::bit_width(0xFFFFFFFFu >> (31 - n)) == n + 1);
  }
}

TEST_CASE("is_nan_bits is true above infinity alone", "[bits][golden]") {
  for (const std::uint32_t sign : {0u, 0x80000000u}) {
    CHECK_FALSE(detail::is_nan_bits(sign | 0x7F800000u));
    CHECK_FALSE(detail::is_nan_bits(sign | 0x7F7FFFFFu));
    CHECK(detail::is_nan_bits(sign | 0x7F800001u));
    CHECK(detail::is_nan_bits(sign | 0x7FFFFFFFu));
  }
}
