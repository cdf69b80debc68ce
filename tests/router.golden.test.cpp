// tests/router.golden.test.cpp -- route_topk_sigmoid: literal routings, an independent sort, and every wrong argument.
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
    why = route_topk_sigmoid({logits.data(), m, e, e}, bias.empty() ? nullptr : bias.data(), {indices.data(), m, k, k},
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
