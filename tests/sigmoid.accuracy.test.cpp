// tests/sigmoid.accuracy.test.cpp -- sigmoid, silu and the gated units against double; the vector loop's bits.
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

TEST_CASE("exp_of_negative: within 2 ulp, below 2^-126 within 2^-149", "[sigmoid][accuracy]") {
  const auto right = [](std::uint64_t bits) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::isnan(x)) return true;
    const double exact = std::exp(static_cast<double>(x));
    return ulps(detail::exp_of_negative(x), exact) <= (exact < 0x1p-126 ? 1.0 : 2.0);
  };
  CHECK(test::sweep_each(std::uint64_t{1} << 31, std::uint64_t{0xFF800001u}, right, 509) == test::none);  // -0 .. -inf
  CHECK(detail::exp_of_negative(0.0f) == 1.0f);
  CHECK(detail::exp_of_negative(-inf) == 0.0f);
}

namespace {

/// The definitions of glu.hpp in double; z is what sigmoid is taken of.
struct exact_glu {
  double value, z;
};
exact_glu exact_glu_of(hidden_act act, double g, double u) {
  const auto gated = [](double by, double z) { return z < -700 ? 0.0 : by / (1 + std::exp(-z)); };
  if (act == hidden_act::silu) return {gated(g, g) * u, g};
  if (act == hidden_act::gelu_tanh) {
    const double z = 2 * std::sqrt(2 / 3.14159265358979323846) * (g + 0.044715 * g * g * g);
    return {gated(g, z) * u, z};
  }
  g = std::fmin(g, 7.0);
  u = std::fmax(-7.0, std::fmin(u, 7.0));
  const double z = static_cast<double>(1.702f) * g;
  return {gated(g, z) * (u + 1), z};
}

}  // namespace

TEST_CASE("glu: its definition in double, within its bound", "[sigmoid][accuracy]") {
  for (const hidden_act act : {hidden_act::silu, hidden_act::gpt_oss, hidden_act::gelu_tanh})
    for (const float up : {1.0f, -0.3f, 6.5f, -9.0f, 1e3f}) {
      CAPTURE(static_cast<int>(act), up);
      const auto right = [&](std::uint64_t bits) {
        const float g = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
        if (!std::isfinite(g) || std::fabs(g) > 1e30f) return true;  // a product of two of these overflows
        const auto [value, z] = exact_glu_of(act, static_cast<double>(g), static_cast<double>(up));
        const double bound =
            (10 + 4 * std::fabs(z)) * 0x1p-24 * std::fabs(value) + 0x1p-147 * (std::fabs(static_cast<double>(up)) + 1);
        return std::fabs(static_cast<double>(glu(act, g, up)) - value) <= bound;
      };
      CHECK(test::sweep_each(0, std::uint64_t{1} << 32, right, 4099) == test::none);
    }
}

TEST_CASE("glu: named places", "[sigmoid][golden]") {
  // transformers 5.24, torch 2.13: GptOssExperts._apply_gate, ACT2FN["gelu_pytorch_tanh"], in float32
  CHECK(std::fabs(glu(hidden_act::gpt_oss, 1.0f, 0.5f) - 1.26869369f) <= 0x1p-22f);
  CHECK(std::fabs(glu(hidden_act::gpt_oss, 9.0f, -8.0f) - -41.9997185f) <= 0x1p-17f);
  CHECK(std::fabs(glu(hidden_act::gelu_tanh, 1.0f, 1.0f) - 0.84119198f) <= 0x1p-22f);
  CHECK(glu(hidden_act::gpt_oss, 9.0f, 3.0f) == glu(hidden_act::gpt_oss, 7.0f, 3.0f));
  CHECK(glu(hidden_act::gpt_oss, 1.0f, 8.0f, 1.702f, 2.0f) == glu(hidden_act::gpt_oss, 1.0f, 2.0f));
  CHECK(glu(hidden_act::gpt_oss, 1.0f, -1.0f) == 0.0f);
  CHECK(glu(hidden_act::gpt_oss, 1.0f, 2.0f, 1.0f) != glu(hidden_act::gpt_oss, 1.0f, 2.0f));
  CHECK(test::same_bits(glu(hidden_act::silu, -0.75f, 3.0f), silu(-0.75f) * 3.0f));
  CHECK(glu(hidden_act::gelu_tanh, 60.0f, 2.0f) == 120.0f);
  CHECK(test::same_bits(glu(hidden_act::gelu_tanh, -1e20f, 2.0f), -0.0f));
  for (const hidden_act act : {hidden_act::silu, hidden_act::gpt_oss, hidden_act::gelu_tanh}) {
    CHECK(std::isnan(glu(act, -inf, 1.0f)));
    CHECK(std::isnan(glu(act, std::nanf(""), 1.0f)));
    CHECK(std::isnan(glu(act, 1.0f, std::nanf(""))));
  }
}

TEMPLATE_LIST_TEST_CASE("activate: the bits of glu, on every ISA", "[sigmoid][equal]", mxfp4::test::arches) {
  for (const hidden_act act : {hidden_act::silu, hidden_act::gpt_oss, hidden_act::gelu_tanh}) {
    CAPTURE(static_cast<int>(act));
    const moe_options options{.act = act, .alpha = 1.702f, .limit = 7.0f};
    const auto part = [&](std::uint64_t begin, std::uint64_t end) {
      test::findings found;
      alignas(64) float gate[64], up[64], x[64];
      for (std::uint64_t at = begin; at < end; ++at) {
        for (int i = 0; i < 64; ++i) {
          x[i] = gate[i] =
              std::bit_cast<float>(static_cast<std::uint32_t>((at * 64 + static_cast<unsigned>(i)) * 4099));
          up[i] = i % 4 == 0 ? -1.75f : i % 4 == 1 ? 0x1p-30f : i % 4 == 2 ? 8.5f : -70.0f;
        }
        kernel::activate<TestType>(gate, up, 64, options);
        for (int i = 0; i < 64; ++i) {
          const float y = glu(act, x[i], up[i]);
          found.expect(test::same_bits(gate[i], y) || (std::isnan(gate[i]) && std::isnan(y)),
                       std::bit_cast<std::uint32_t>(x[i]));
        }
      }
      return found;
    };
    CHECK(test::sweep(0, (std::uint64_t{1} << 32) / 64 / 4099, part) == test::none);
  }
}
