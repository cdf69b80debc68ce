// tests/e8m0.golden.test.cpp -- the 256 scale bytes, against ldexp and two peers' tables.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "mxfp4/core/e8m0.hpp"
#include "mxfp4/core/float_types.hpp"
#include "support/print.hpp"
#include "support/vectors.hpp"

using namespace mxfp4;

TEST_CASE("e8m0 bytes are powers of two, byte 255 is NaN", "[e8m0][exhaustive][golden]") {
  const auto ml_dtypes = test::load<float>("exhaustive/e8m0_values_ml_dtypes.f32");
  const auto cuda = test::load<std::uint16_t>("exhaustive/e8m0_to_bf16_cuda.u16");
  REQUIRE(ml_dtypes.size() == 256);
  REQUIRE(cuda.size() == 256);
  for (int byte = 0; byte < 255; ++byte) {
    CAPTURE(byte);
    const float value = decode(static_cast<e8m0>(byte));
    CHECK(static_cast<double>(value) == std::ldexp(1.0, byte - 127));
    CHECK(value == ml_dtypes[static_cast<std::size_t>(byte)]);
    CHECK(encode_bf16(value) == static_cast<bf16>(cuda[static_cast<std::size_t>(byte)]));
  }
  CHECK(detail::float_bits(decode(e8m0::nan)) == 0x7FC00000u);
  CHECK(std::isnan(ml_dtypes[255]));
  CHECK(std::isnan(decode(static_cast<bf16>(cuda[255]))));
}

TEST_CASE("e8m0 names and type", "[e8m0][golden]") {
  STATIC_CHECK(static_cast<int>(e8m0::one) == 127);
  STATIC_CHECK(static_cast<int>(e8m0::max) == 254);
  STATIC_CHECK(static_cast<int>(e8m0::nan) == 255);
  STATIC_CHECK(sizeof(e8m0) == 1);
  STATIC_CHECK_FALSE(std::is_convertible_v<e8m0, int>);
  STATIC_CHECK_FALSE(std::is_convertible_v<int, e8m0>);
}
