// tests/e2m1.golden.test.cpp -- the sixteen FP4 values, against literals and two peers' tables.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <string>
#include <type_traits>

#include "mxfp4/core/e2m1.hpp"
#include "support/print.hpp"
#include "support/vectors.hpp"

using namespace mxfp4;

TEST_CASE("e2m1 codes have the values of the standard", "[e2m1][golden]") {
  const std::uint32_t expected[16] = {0x00000000u, 0x3F000000u, 0x3F800000u, 0x3FC00000u, 0x40000000u, 0x40400000u,
                                      0x40800000u, 0x40C00000u, 0x80000000u, 0xBF000000u, 0xBF800000u, 0xBFC00000u,
                                      0xC0000000u, 0xC0400000u, 0xC0800000u, 0xC0C00000u};
  const auto cuda = test::load<std::uint32_t>("exhaustive/e2m1_values_cuda.f32");
  const auto ml_dtypes = test::load<std::uint32_t>("exhaustive/e2m1_values_ml_dtypes.f32");
  REQUIRE(cuda.size() == 16);
  REQUIRE(ml_dtypes.size() == 16);
  for (std::size_t c = 0; c < 16; ++c) {
    CAPTURE(c);
    CHECK(detail::float_bits(decode(static_cast<e2m1>(c))) == expected[c]);
    CHECK(detail::float_bits(e2m1_values[c]) == expected[c]);
    CHECK(cuda[c] == expected[c]);
    CHECK(ml_dtypes[c] == expected[c]);
  }
  CHECK(e2m1_max == 6.0f);
  CHECK(e2m1_emax == 2);
}

TEST_CASE("a code and a scale cannot be mixed up", "[e2m1][golden]") {
  STATIC_CHECK(sizeof(e2m1) == 1);
  STATIC_CHECK_FALSE(std::is_convertible_v<e2m1, int>);
  STATIC_CHECK_FALSE(std::is_convertible_v<int, e2m1>);
  STATIC_CHECK(std::is_trivially_copyable_v<e2m1>);
}
