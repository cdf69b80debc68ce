// tests/router.golden.test.cpp -- route_topk: literal routings, an independent sort, and every wrong argument.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/moe/router.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string_view>
#include <vector>

#include "support/arches.hpp"
#include "support/backward_executor.hpp"
#include "support/product.hpp"

namespace {

using namespace mxfp4;
using test::same_bits;
using test::splitmix;
constexpr float inf = std::numeric_limits<float>::infinity();

struct routed {
  routed(std::vector<float> logits, std::int64_t m, std::int64_t k, const std::vector<float>& bias = {},
         const route_options& options = {})
      : indices(static_cast<std::size_t>(m * k), -5), weights(indices.size(), -5.0f) {
    const auto e = static_cast<std::int64_t>(logits.size()) / m;
    why = route_topk({logits.data(), m, e, e}, bias.empty() ? nullptr : bias.data(), {indices.data(), m, k, k},
                     {weights.data(), m, k, k}, options);
  }
  std::vector<std::int32_t> indices;
  std::vector<float> weights;
  status why;
};
using ints = std::vector<std::int32_t>;

}  // namespace

TEST_CASE("route: who is chosen, and in which order", "[router][golden]") {
  CHECK(routed({1, 3, 2, 0}, 1, 2).indices == ints{1, 2});
  CHECK(routed({1, 3, 2, 0}, 1, 4).indices == ints{1, 2, 0, 3});
  CHECK(routed({7, 7, 7, 7}, 1, 3).indices == ints{0, 1, 2});  // equal scores: the lower index
  CHECK(routed({0, 5, 5, 9, 5}, 1, 3).indices == ints{3, 1, 2});
  CHECK(routed({40, 30, 50}, 1, 2).indices == ints{0, 1});  // all 1 in float: equal
  CHECK(routed({0, 0, 0}, 1, 2, {0.0f, -1.0f, 1.0f}).indices == ints{2, 0});
  CHECK(routed({2, 1, 0, 1, 0, 2}, 2, 1).indices == ints{0, 2});  // two tokens
  CHECK(routed({-inf, -2, -3}, 1, 2).indices == ints{1, 2});
  CHECK(routed({1, 2, 3}, 1, 2, {inf, 0.0f, -inf}).indices == ints{0, 1});
}

TEST_CASE("route: weights are the unbiased scores over their sum", "[router][golden]") {
  CHECK(routed({0, 0, -100}, 1, 2).weights == std::vector<float>{0.5f, 0.5f});
  CHECK(routed({0, 50, 0, 0}, 1, 3).weights == std::vector<float>{0.5f, 0.25f, 0.25f});  // 1, 1/2, 1/2 over 2
  CHECK(routed({0, 50}, 1, 2, {9.0f, 0.0f}).weights == std::vector<float>{0x1.555556p-2f, 0x1.555556p-1f});
  CHECK(routed({0, 50}, 1, 2, {}, {.renormalize = false}).weights == std::vector<float>{1.0f, 0.5f});
  CHECK(routed({0, 0}, 1, 2, {}, {.scale = 2.5f}).weights == std::vector<float>{1.25f, 1.25f});
  CHECK(routed({-inf, -inf}, 1, 2).weights == std::vector<float>{0.0f, 0.0f});  // the sum is 0
  CHECK(routed({-inf, 3}, 1, 2).weights == std::vector<float>{1.0f, 0.0f});
}

TEST_CASE("route: against a stable sort of scores in double", "[router][property]") {
  splitmix random(71);
  const std::int64_t m = 200, e = 256, k = 8;
  std::vector<float> logits(static_cast<std::size_t>(m * e)), bias(static_cast<std::size_t>(e));
  for (float& v : logits) v = static_cast<float>(random.in(-80, 80)) / 16.0f;  // many equals
  for (float& v : bias) v = static_cast<float>(random.in(-3, 3)) / 4.0f;
  test::backward_executor backward;
  const routed r(logits, m, k, bias), s(logits, m, k, bias, {.executor = backward});
  REQUIRE(r.why.ok());
  CHECK(r.indices == s.indices);
  CHECK(same_bits(r.weights, s.weights));
  CHECK(backward.tasks > 2);
  for (std::int64_t t = 0; t < m; ++t) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(e));
    std::iota(order.begin(), order.end(), 0);
    const auto score = [&](std::int32_t i) {
      return 1.0 / (1.0 + std::exp(-static_cast<double>(logits[static_cast<std::size_t>(t * e + i)])));
    };
    // equal logits under equal biases are equal; other scores here differ by 2^-16 or more
    std::ranges::stable_sort(order, [&](std::int32_t a, std::int32_t b) {
      const double x = score(a) + static_cast<double>(bias[static_cast<std::size_t>(a)]);
      const double y = score(b) + static_cast<double>(bias[static_cast<std::size_t>(b)]);
      return x > y + 1e-7;
    });
    double sum = 0;
    for (std::int64_t i = 0; i < k; ++i) sum += score(order[static_cast<std::size_t>(i)]);
    for (std::int64_t i = 0; i < k; ++i) {
      const auto at = static_cast<std::size_t>(t * k + i);
      CAPTURE(t, i);
      REQUIRE(r.indices[at] == order[static_cast<std::size_t>(i)]);
      const double exact = score(r.indices[at]) / sum;
      REQUIRE(std::fabs(static_cast<double>(r.weights[at]) - exact) <= (6.0 + k + 2.0) * 0x1p-24 * exact * 2.0);
    }
  }
}

TEST_CASE("route: softmax before and after the choice", "[router][golden]") {
  const route_options before{.renormalize = false, .scoring = scoring_func::softmax};
  const route_options renormalised{.scoring = scoring_func::softmax};
  const route_options after{.renormalize = false, .scoring = scoring_func::softmax_of_chosen};
  CHECK(routed({0, 0, 0, 0}, 1, 2, {}, before).weights == std::vector<float>{0.25f, 0.25f});
  CHECK(routed({0, 0, 0, 0}, 1, 2, {}, renormalised).weights == std::vector<float>{0.5f, 0.5f});
  CHECK(routed({0, 0, 0, 0}, 1, 2, {}, after).weights == std::vector<float>{0.5f, 0.5f});
  CHECK(routed({-200, 3, 3, -200}, 1, 3, {}, before).indices == ints{1, 2, 0});
  CHECK(routed({-200, 3, 3, -200}, 1, 3, {}, before).weights == std::vector<float>{0.5f, 0.5f, 0.0f});
  CHECK(routed({5, 5, 5}, 1, 1, {}, after).weights == std::vector<float>{1.0f});
  CHECK(routed({0, 0}, 1, 1, {}, {.scale = 3.0f, .scoring = scoring_func::softmax_of_chosen}).weights ==
        std::vector<float>{3.0f});
  // A bias chooses, and does not weigh.
  CHECK(routed({0, 0, 0, 0}, 1, 1, {0, 0, 0.5f, 0}, before).indices == ints{2});
  CHECK(routed({0, 0, 0, 0}, 1, 1, {0, 0, 0.5f, 0}, before).weights == std::vector<float>{0.25f});
  CHECK(routed({1, 2, 3}, 1, 2, {9.0f, 0.0f, -9.0f}, after).indices == ints{0, 1});
  CHECK(routed({-inf, -inf}, 1, 1, {}, before).weights == std::vector<float>{0.0f});
  CHECK(routed({-inf, -inf}, 1, 1, {}, after).weights == std::vector<float>{0.0f});
  CHECK(routed({inf, 1}, 1, 2, {}, before).weights == std::vector<float>{1.0f, 0.0f});
  CHECK(routed({1, inf}, 1, 2, {}, after).weights == std::vector<float>{1.0f, 0.0f});
  CHECK(routed({-inf, 3}, 1, 2, {}, after).weights == std::vector<float>{1.0f, 0.0f});
}

TEST_CASE("route: only experts of the best groups", "[router][golden]") {
  const auto of = [](std::int64_t groups, std::int64_t open) {
    return route_options{.scoring = scoring_func::softmax_of_chosen, .n_group = groups, .topk_group = open};
  };
  // The best two are 5 and 4, of different groups; the group of the best has 5 and 1 to offer.
  CHECK(routed({5, 1, 4, 3}, 1, 2, {}, of(1, 1)).indices == ints{0, 2});
  CHECK(routed({5, 1, 4, 3}, 1, 2, {}, of(2, 1)).indices == ints{0, 1});
  // With a bias a group counts the sum of its best two: 4 + 3 is more than 5 + 1.
  CHECK(routed({5, 1, 4, 3}, 1, 2, {0, 0, 0, 0}, of(2, 1)).indices == ints{2, 3});
  CHECK(routed({5, 1, 4, 3}, 1, 2, {0, 2, 0, 0}, of(2, 1)).indices == ints{0, 1});
  CHECK(routed({1, 1, 1, 1, 1, 1}, 1, 2, {}, of(3, 1)).indices == ints{0, 1});  // equal groups: the first
  CHECK(routed({1, 2, 9, 0, 8, 0}, 1, 3, {}, of(3, 2)).indices == ints{2, 4, 3});
  CHECK(routed({3, 2, 1}, 1, 2, {}, of(3, 2)).indices == ints{0, 1});  // groups of one
  CHECK(routed({3, 2, 1}, 1, 2, {0, 0, 9}, of(3, 2)).indices == ints{2, 0});
  CHECK(routed({-5, -6, -7, -8}, 1, 1, {}, of(2, 1)).indices == ints{0});
  CHECK(routed({5, 1, 4, 3}, 1, 2, {}, of(0, 0)).indices == ints{0, 2});
}

TEST_CASE("route: softmax against double", "[router][property]") {
  splitmix random(72);
  const std::int64_t m = 64, e = 128, k = 8;
  std::vector<float> logits(static_cast<std::size_t>(m * e));
  for (float& v : logits) v = static_cast<float>(random.in(-1 << 20, 1 << 20)) * 0x1p-16f;  // few equals
  for (const scoring_func scoring : {scoring_func::softmax, scoring_func::softmax_of_chosen})
    for (const bool renormalize : {false, true}) {
      const routed r(logits, m, k, {}, {.renormalize = renormalize, .scoring = scoring});
      REQUIRE(r.why.ok());
      for (std::int64_t t = 0; t < m; ++t) {
        std::vector<std::int32_t> order(static_cast<std::size_t>(e));
        std::iota(order.begin(), order.end(), 0);
        const auto logit = [&](std::int32_t i) {
          return static_cast<double>(logits[static_cast<std::size_t>(t * e + i)]);
        };
        std::ranges::stable_sort(order, [&](std::int32_t a, std::int32_t b) { return logit(a) > logit(b); });
        const bool all = scoring == scoring_func::softmax && !renormalize;
        double sum = 0;
        for (std::int64_t i = 0; i < (all ? e : k); ++i)
          sum += std::exp(logit(order[static_cast<std::size_t>(i)]) - logit(order[0]));
        for (std::int64_t i = 0; i < k; ++i) {
          const auto at = static_cast<std::size_t>(t * k + i);
          CAPTURE(t, i);
          REQUIRE(r.indices[at] == order[static_cast<std::size_t>(i)]);
          const double difference = logit(r.indices[at]) - logit(order[0]), exact = std::exp(difference) / sum;
          REQUIRE(std::fabs(static_cast<double>(r.weights[at]) - exact) <=
                  (static_cast<double>(e) + 12 + std::fabs(difference)) * 0x1p-24 * exact * 2.0);
        }
      }
    }
}

TEST_CASE("route: options that do not fit", "[router][bad_input]") {
  const auto says = [](const route_options& options, std::string_view sentence) {
    const routed r(std::vector<float>(12, 0.5f), 1, 5, {}, options);
    CHECK(message(r.why).view() == sentence);
    CHECK(r.indices == ints(5, -5));
  };
  says({.n_group = -1}, "options.n_group is -1, expected 0 to 64");
  says({.n_group = 65}, "options.n_group is 65, expected 0 to 64");
  says({.n_group = 5, .topk_group = 2}, "logits.cols is 12, expected 10");
  says({.n_group = 3, .topk_group = 4}, "options.topk_group is 4, expected 0 to 3");
  says({.n_group = 3, .topk_group = -1}, "options.topk_group is -1, expected 0 to 3");
  says({.n_group = 3, .topk_group = 1}, "indices.cols is 5, expected at most 4");
  says({.scoring = static_cast<scoring_func>(3)}, "options.scoring is 3, expected 0 to 2");
}

TEST_CASE("route: bad input", "[router][bad_input]") {
  const float nan = std::nanf("");
  std::vector<float> logits(12, 0.5f), weights(6, 7.0f);
  std::vector<std::int32_t> indices(6, 7);
  const dense_view<const float> l{logits.data(), 3, 4, 4};
  const dense_view<std::int32_t> i{indices.data(), 3, 2, 2};
  const dense_view<float> w{weights.data(), 3, 2, 2};
  const auto says = [](const status& s, std::string_view sentence) { CHECK(message(s).view() == sentence); };
  says(route_topk_sigmoid(l, nullptr, {indices.data(), 1, 5, 5}, {weights.data(), 1, 5, 5}),
       "indices.rows is 1, expected 3");
  says(route_topk_sigmoid({logits.data(), 1, 4, 4}, nullptr, {indices.data(), 1, 5, 5}, {weights.data(), 1, 5, 5}),
       "indices.cols is 5, expected at most 4");
  says(route_topk_sigmoid(l, nullptr, i, {weights.data(), 3, 1, 1}), "weights.cols is 1, expected 2");
  says(route_topk_sigmoid(l, nullptr, i, {weights.data(), 2, 2, 2}), "weights.rows is 2, expected 3");
  says(route_topk_sigmoid(l, nullptr, i, {nullptr, 3, 2, 2}), "weights.data is null, expected memory for 6 elements");
  says(route_topk_sigmoid(l, nullptr, {nullptr, 3, 2, 2}, w), "indices.data is null, expected memory for 6 elements");
  says(route_topk_sigmoid({nullptr, 3, 4, 4}, nullptr, i, w), "logits.data is null, expected memory for 12 elements");
  says(route_topk_sigmoid({logits.data(), 3, 4, 3}, nullptr, i, w),
       "logits.stride is 3, expected at least 4, the length of a row");
  says(route_topk_sigmoid(l, nullptr, i, {logits.data(), 3, 2, 2}), "weights overlaps an input: pass separate memory");
  says(route_topk_sigmoid(l, weights.data(), i, w), "weights overlaps an input: pass separate memory");
  says(route_topk_sigmoid(l, nullptr, {reinterpret_cast<std::int32_t*>(logits.data()), 3, 2, 2}, w),
       "indices overlaps an input: pass separate memory");
  says(route_topk_sigmoid(l, nullptr, i, {reinterpret_cast<float*>(indices.data()), 3, 2, 2}),
       "weights overlaps an input: pass separate memory");
  logits[6] = nan;
  says(route_topk_sigmoid(l, nullptr, i, w), "logits (row 1, column 2) is NaN, expected a number: repair the input");
  logits[6] = 0.0f;
  const std::vector<float> bias{0.0f, 0.0f, 0.0f, nan};
  says(route_topk_sigmoid(l, bias.data(), i, w), "bias (number 3) is NaN, expected a number: repair the input");
  CHECK(indices == ints(6, 7));
  CHECK(weights == std::vector<float>(6, 7.0f));

  CHECK(route_topk_sigmoid({nullptr, 0, 4, 4}, nullptr, {nullptr, 0, 2, 2}, {nullptr, 0, 2, 2}).ok());  // no tokens
  CHECK(route_topk_sigmoid(l, nullptr, {nullptr, 3, 0, 0}, {nullptr, 3, 0, 0}).ok());                   // k = 0
  CHECK(route_topk_sigmoid({nullptr, 3, 0, 0}, nullptr, {nullptr, 3, 0, 0}, {nullptr, 3, 0, 0}).ok());  // no experts
  says(route_topk_sigmoid({nullptr, 3, 0, 0}, nullptr, i, w), "indices.cols is 2, expected at most 0");
}
