// tests/model.softmax.test.cpp -- the softmax of attention against double, and that no register's width changes a bit.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "model/loops.hpp"
#include "model/loops_text.hpp"
#include "support/random.hpp"
#include "support/sweep.hpp"

namespace {

using namespace mxfp4;
constexpr float inf = std::numeric_limits<float>::infinity();

float power(float x) { return model::power_of_e<4>(model::lanes_of<4>::floats{x, x, x, x})[3]; }

/// A number's bits; NaN has one pattern, since which it is depends on the order of an operation's operands.
std::uint32_t bits(float x) { return std::isnan(x) ? ~0u : std::bit_cast<std::uint32_t>(x); }

std::vector<float> softmax_of(std::vector<float> scores, float factor, const float* sink) {
  std::vector<float> again = scores;
  model::loops().softmax(scores.data(), std::ssize(scores), factor, sink);
  model::softmax<4>(again.data(), std::ssize(again), factor, sink);
  CHECK(std::ranges::equal(scores, again, {}, bits, bits));
  return scores;
}

bool all_nan(const std::vector<float>& x) {
  return std::ranges::all_of(x, [](float y) { return std::isnan(y); });
}

}  // namespace

TEST_CASE("powers of e: within 2 ulp down to e^-87.3, then 0", "[model][accuracy]") {
  const auto right = [](std::uint64_t bits) {
    const float x = -std::bit_cast<float>(static_cast<std::uint32_t>(bits)), y = power(x);
    if (x < -87.3f) return std::bit_cast<std::uint32_t>(y) == 0;
    const double exact = std::exp(static_cast<double>(x));
    int exponent = 0;
    static_cast<void>(std::frexp(exact, &exponent));
    return std::fabs(static_cast<double>(y) - exact) <= 2.0 * std::ldexp(1.0, exponent - 24);
  };
  const std::uint64_t infinity = std::bit_cast<std::uint32_t>(inf);
  CHECK(test::sweep_each(0, infinity + 1, right, 101) == test::none);
  CHECK(power(0.0f) == 1.0f);
  CHECK(power(-0.0f) == 1.0f);
  CHECK(power(-87.3f) > 0.0f);
  CHECK(power(-inf) == 0.0f);
  for (const std::uint32_t nan : {0x7FC00000u, 0xFFC00000u, 0x7FC00001u, 0x7FFFFFFFu})
    CHECK(std::isnan(power(std::bit_cast<float>(nan))));
}

TEST_CASE("softmax: each length, with a sink and without, within 10 u of double", "[model][accuracy]") {
  // u = 2^-24: a power is within 4 u, so is the divisor; its rounding and that of the product add one each.
  constexpr float factor = 0.125f;
  test::splitmix random(7);
  for (std::int64_t length = 1; length <= 67; ++length)
    for (const float* const sink : {static_cast<const float*>(nullptr), &factor}) {
      std::vector<float> scores(static_cast<std::size_t>(length));
      for (float& s : scores) s = static_cast<float>(random.between(-300000, 300000)) * 1e-3f;
      const std::vector<float> y = softmax_of(scores, factor, sink);
      float largest = sink == nullptr ? -inf : *sink;
      for (const float s : scores) largest = std::max(largest, s * factor);
      const auto exact = [&](float scaled) { return std::exp(static_cast<double>(scaled - largest)); };
      double total = sink == nullptr ? 0.0 : exact(*sink);
      for (const float s : scores) total += exact(s * factor);
      test::findings found;
      for (std::size_t i = 0; i < scores.size(); ++i) {
        const double right = exact(scores[i] * factor) / total;
        found.expect(std::fabs(static_cast<double>(y[i]) - right) <= 10.0 * 0x1p-24 * right, i);
      }
      CAPTURE(length, sink != nullptr);
      CHECK(found == test::none);
    }
}

TEST_CASE("softmax: minus infinity has no part; NaN and infinity make NaN of all", "[model]") {
  for (const std::size_t length : {std::size_t{1}, std::size_t{3}, std::size_t{8}, std::size_t{21}}) {
    const std::vector<float> zeros(length);
    for (std::size_t at = 0; at < length; ++at) {
      CAPTURE(length, at);
      std::vector<float> scores = zeros;
      scores[at] = std::nanf("");
      CHECK(all_nan(softmax_of(scores, 1.0f, nullptr)));
      scores[at] = inf;
      CHECK(all_nan(softmax_of(scores, 1.0f, nullptr)));
      scores[at] = -inf;
      const std::vector<float> y = softmax_of(scores, 1.0f, nullptr);
      if (length == 1) CHECK(all_nan(y));
      else
        for (std::size_t i = 0; i < length; ++i)
          CHECK(y[i] == (i == at ? 0.0f : 1.0f / static_cast<float>(length - 1)));
    }
    const float sink = std::nanf("");
    CHECK(all_nan(softmax_of(zeros, 1.0f, &sink)));
  }
}
