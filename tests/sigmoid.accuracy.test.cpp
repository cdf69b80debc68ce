// tests/sigmoid.accuracy.test.cpp -- sigmoid and silu against double on every 509th float; the vector loop's bits.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>

#include "mxfp4/kernel/moe.hpp"
#include "support/arches.hpp"
#include "support/product.hpp"
#include "support/sweep.hpp"

namespace {

using namespace mxfp4;
constexpr float inf = std::numeric_limits<float>::infinity();

/// |y - exact| in units in the last place of exact, 2^-149 where that is subnormal.
double ulps(float y, double exact) {
  int exponent = 0;
  static_cast<void>(std::frexp(std::max(std::fabs(exact), 0x1p-126), &exponent));
  return std::fabs(static_cast<double>(y) - exact) / std::ldexp(1.0, exponent - 24);
}

double exact_sigmoid(float x) {  // e^-x is finite in double wherever the result is not 0 in float
  return x < -700.0f ? 0.0 : 1.0 / (1.0 + std::exp(-static_cast<double>(x)));
}

}  // namespace

TEST_CASE("sigmoid and silu: within 3 and 4 ulp, below 2^-126 within 2^-149 and 2^-148", "[sigmoid][accuracy]") {
  const auto right = [](std::uint64_t bits) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (!std::isfinite(x)) return true;
    const double s = exact_sigmoid(x), product = s * static_cast<double>(x);
    return ulps(sigmoid(x), s) <= (s < 0x1p-126 ? 1.0 : 3.0) &&
           ulps(silu(x), product) <= (std::fabs(product) < 0x1p-126 ? 2.0 : 4.0);
  };
  CHECK(test::sweep_each(0, std::uint64_t{1} << 32, right, 509) == test::none);
}

TEST_CASE("sigmoid and silu: named places", "[sigmoid][golden]") {
  CHECK(sigmoid(0.0f) == 0.5f);
  CHECK(sigmoid(-0.0f) == 0.5f);
  CHECK(sigmoid(inf) == 1.0f);
  CHECK(sigmoid(-inf) == 0.0f);
  CHECK(sigmoid(20.0f) == 1.0f);
  CHECK(sigmoid(-100.0f) == 0x1.bp-145f);  // e^-100 = 3.72e-44 = 26.5 * 2^-149, here 27
  CHECK(std::isnan(sigmoid(std::nanf(""))));
  CHECK(test::same_bits(silu(0.0f), 0.0f));
  CHECK(test::same_bits(silu(-0.0f), -0.0f));
  CHECK(silu(64.0f) == 64.0f);
  CHECK(silu(inf) == inf);
  CHECK(test::same_bits(silu(-1000.0f), -0.0f));
  CHECK(test::same_bits(silu(-std::numeric_limits<float>::max()), -0.0f));
  CHECK(silu(std::numeric_limits<float>::max()) == std::numeric_limits<float>::max());
  CHECK(std::isnan(silu(-inf)));
  CHECK(std::isnan(silu(std::nanf(""))));
  CHECK(std::fabs(silu(1.0f) - 0.7310585786f) <= 0x1p-23f);
}

TEMPLATE_LIST_TEST_CASE("swiglu: silu's bits times up, on every ISA", "[sigmoid][equal]", mxfp4::test::arches) {
  const auto part = [](std::uint64_t begin, std::uint64_t end) {
    test::findings found;
    alignas(64) float gate[64], up[64], x[64];
    for (std::uint64_t at = begin; at < end; ++at) {
      for (int i = 0; i < 64; ++i) {
        x[i] = gate[i] = std::bit_cast<float>(static_cast<std::uint32_t>((at * 64 + static_cast<unsigned>(i)) * 4099));
        up[i] = i % 2 == 0 ? -1.75f : 0x1p-30f;
      }
      kernel::swiglu<TestType>(gate, up, 64);
      for (int i = 0; i < 64; ++i) {
        const float y = silu(x[i]) * up[i];
        found.expect(test::same_bits(gate[i], y) || (std::isnan(gate[i]) && std::isnan(y)),
                     std::bit_cast<std::uint32_t>(x[i]));
      }
    }
    return found;
  };
  CHECK(test::sweep(0, (std::uint64_t{1} << 32) / 64 / 4099, part) == test::none);
}
