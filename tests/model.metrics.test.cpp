// tests/model.metrics.test.cpp -- KLD, perplexity and percentiles where the answer is known in closed form.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "model/metrics.hpp"
#include "support/random.hpp"

namespace {

using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using namespace mxfp4::model;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;

constexpr double ulps = 1e-14;  // what a few operations in double may be off

token_comparison compare(const std::vector<float>& p, const std::vector<float>& q, std::int64_t next = 0) {
  return compare_logits(p, q, next);
}

std::vector<float> random_logits(std::size_t n, std::uint64_t seed) {
  mxfp4::test::splitmix random(seed);
  std::vector<float> logits(n);
  for (float& x : logits) x = static_cast<float>(random.in(-64, 64)) / 8;  // a shift by thousands changes none
  return logits;
}

}  // namespace

TEST_CASE("metrics: equal and shifted logits are no distance apart", "[model][metrics]") {
  const std::vector<float> p = random_logits(300, 1);
  CHECK(compare(p, p).kld == 0.0);
  CHECK(compare(p, p).same_top1);
  CHECK(compare(p, p, 7).reference_nll == compare(p, p, 7).target_nll);
  for (const float shift : {-10000.0f, -1.0f, 3.0f, 10000.0f}) {
    CAPTURE(shift);
    std::vector<float> q = p;
    for (float& x : q) x += shift;
    const token_comparison c = compare(p, q, 7);
    CHECK_THAT(c.kld, WithinAbs(0.0, 1e-11));  // logits near 1e4 have 2^-40 in double
    CHECK_THAT(c.target_nll, WithinAbs(c.reference_nll, 1e-11));
    CHECK_THAT(compare(q, q, 7).entropy, WithinAbs(compare(p, p, 7).entropy, 1e-10));
    CHECK(c.same_top1);
  }
}

TEST_CASE("metrics: two symbols by hand", "[model][metrics]") {
  const auto log3 = std::log(3.0f);
  const double a =
      std::exp(static_cast<double>(log3)) / (1 + std::exp(static_cast<double>(log3)));  // 3/4 but for float
  const std::vector<float> even = {0, 0}, three_to_one = {log3, 0};
  // KL(1/2, 1/2 || a, 1 - a) = -log(2) - (log a + log(1 - a)) / 2, and the other way round
  const token_comparison forth = compare(even, three_to_one, 1), back = compare(three_to_one, even, 0);
  CHECK_THAT(forth.kld, WithinRel(-std::log(2.0) - (std::log(a) + std::log(1 - a)) / 2, ulps));
  CHECK_THAT(back.kld, WithinRel(a * std::log(2 * a) + (1 - a) * std::log(2 * (1 - a)), ulps));
  CHECK_THAT(forth.kld, WithinAbs(0.1438410362, 1e-7));  // log(2 / sqrt(3))
  CHECK_THAT(back.kld, WithinAbs(0.1308120329, 1e-7));   // log(2) - 2 log(2) + 3/4 log(3)
  CHECK_THAT(forth.reference_nll, WithinRel(std::log(2.0), ulps));
  CHECK_THAT(forth.target_nll, WithinAbs(std::log(4.0), 1e-7));  // of the second symbol
  CHECK_THAT(back.reference_nll, WithinAbs(std::log(4.0 / 3), 1e-7));
  CHECK_THAT(forth.entropy, WithinRel(std::log(2.0), ulps));
  CHECK_THAT(back.entropy, WithinAbs(0.5623351446, 1e-7));
  CHECK(forth.same_top1);  // the first of equals
  CHECK_FALSE(compare({0, 1}, {1, 0}).same_top1);
}

TEST_CASE("metrics: logits of +-1e4 overflow nothing", "[model][metrics]") {
  const std::vector<float> sure = {1e4f, -1e4f}, other = {-1e4f, 1e4f}, high = {1e4f, 1e4f}, low = {-1e4f, -1e4f};
  CHECK(compare(sure, other, 0).kld == 2e4);
  CHECK(compare(sure, other, 0).target_nll == 2e4);
  CHECK(compare(sure, other, 0).reference_nll == 0.0);
  CHECK(compare(sure, sure).entropy == 0.0);
  CHECK_THAT(compare(high, low).kld, WithinAbs(0.0, 1e-11));
  CHECK_THAT(compare(high, low).entropy, WithinAbs(std::log(2.0), 1e-11));
  const std::vector<float> far = {1e38f, -1e38f};
  CHECK(std::isfinite(compare(far, {-1e38f, 1e38f}).kld));
}

TEST_CASE("metrics: a KLD is never negative", "[model][metrics]") {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const std::vector<float> p = random_logits(50, seed);
    std::vector<float> q = p;
    q[seed % 50] = std::nextafter(q[seed % 50], 100.0f);
    CHECK(compare(p, q).kld >= 0.0);
  }
}

TEST_CASE("metrics: the first logit that is no number", "[model][metrics]") {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(find_nonfinite_logit(std::vector<float>{1, 2, 3}) == -1);
  CHECK(find_nonfinite_logit(std::vector<float>{1, nan, inf}) == 1);
  CHECK(find_nonfinite_logit(std::vector<float>{1, 2, -inf}) == 2);
}

TEST_CASE("metrics: percentiles by hand", "[model][metrics]") {
  const std::vector<double> v = {1, 2, 4, 8, 16};  // numpy.percentile(v, 100 * fraction)
  CHECK(percentile(v, 0) == 1);
  CHECK(percentile(v, 0.5) == 4);
  CHECK(percentile(v, 1) == 16);
  CHECK_THAT(percentile(v, 0.95), WithinRel(14.4, ulps));
  CHECK_THAT(percentile(v, 0.1), WithinRel(1.4, ulps));
  CHECK(percentile(std::vector<double>{3}, 0.99) == 3);
  CHECK(percentile(std::vector<double>{3, 5}, 0.5) == 4);
}

TEST_CASE("metrics: sums over tokens by hand", "[model][metrics]") {
  CHECK(summarize({}).tokens == 0);
  // nll 1, 2, 3 against 2, 2, 5: perplexities e^2 and e^3, degradation e - 1
  const std::vector<token_comparison> tokens = {
      {1, 2, 0.5, 0.1, true}, {2, 2, 1.0, 0.2, true}, {3, 5, 1.5, 0.3, false}};
  const comparison_summary s = summarize(tokens);
  CHECK(s.tokens == 3);
  CHECK_THAT(s.reference_perplexity, WithinRel(std::exp(2.0), ulps));
  CHECK_THAT(s.target_perplexity, WithinRel(std::exp(3.0), ulps));
  CHECK_THAT(s.degradation, WithinRel(std::exp(1.0) - 1, ulps));
  CHECK_THAT(s.kld_mean, WithinRel(1.0, ulps));
  CHECK(s.kld_median == 1.0);
  CHECK_THAT(s.kld_p95, WithinRel(1.45, ulps));
  CHECK_THAT(s.kld_p99, WithinRel(1.49, ulps));
  CHECK(s.kld_max == 1.5);
  CHECK_THAT(s.top1_agreement, WithinRel(2.0 / 3, ulps));
  CHECK(s.above_one_nat == 1);  // 1 itself is not above
}
