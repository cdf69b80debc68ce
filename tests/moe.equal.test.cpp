// tests/moe.equal.test.cpp -- the int8 moe: bit-equal to its scalar definition on every ISA, however it is split.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <limits>
#include <vector>

#include "mxfp4/moe/moe.hpp"
#include "support/arches.hpp"
#include "support/backward_executor.hpp"
#include "support/moe.hpp"
#include "support/threads.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

tokens random_tokens(std::int64_t m, std::int64_t k, splitmix& random) {
  return tokens(m, k, 5).fill([&random](std::int64_t, std::int64_t) { return random.with_exponent(118, 127); });
}

/// moe() with fresh memory of exactly the size that the shape asks for.
template <class Arch, class Experts, class X>
std::vector<float> run(const Experts& experts, const moe_shape& shape, const X& x, const routing& r,
                       const moe_options& options = {}) {
  moe_workspace workspace = *moe_workspace::create(shape);
  output y(r.rows, shape.hidden);
  if constexpr (std::is_same_v<X, int8_activations>)
    REQUIRE(moe<Arch>(experts, x, r.expert_view(), r.weight_view(), y.view(), workspace, options).ok());
  else
    REQUIRE(moe<dialect::ocp, Arch>(experts, x, r.expert_view(), r.weight_view(), y.view(), workspace, options).ok());
  return y.data;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("int8 moe: the definition's bits", "[moe][equal]", mxfp4::test::arches) {
  splitmix random(51);
  expert_memory<layout::compressed_tensors> experts(5, 96, 64, random);
  for (const auto& [m, k] : {std::pair{1, 1}, {1, 5}, {2, 3}, {7, 2}, {40, 3}, {140, 1}})
    for (const int8_scaling scaling :
         {int8_scaling::e8m0, int8_scaling::f32, int8_scaling::row, int8_scaling::residual2, int8_scaling::residual3}) {
      if (m > 20 && scaling != int8_scaling::e8m0 && scaling != int8_scaling::residual3) continue;
      if (scaling == int8_scaling::f32 && !fuses<TestType>) continue;  // rounds twice there
      CAPTURE(m, k, static_cast<int>(scaling));
      routing r(m, k, 5, random);
      if (m == 140) std::ranges::fill(r.indices, 3);  // nine groups of tokens for one expert
      const tokens x = random_tokens(m, 96, random);
      const result<int8_activations> a = quantize_activations<TestType>(x.view(), scaling);
      output expected(m, 96);
      reference_moe(experts, x, scaling, r, expected.view());
      CHECK(same_bits(run<TestType>(experts.packed(), experts.shape(m, k), *a, r), expected.data));
      CHECK(same_bits(run<TestType>(experts.views(), experts.shape(m, k), *a, r), expected.data));
      reference_moe(experts, x, scaling, r, expected.view(), true);  // on top of the first result
      const std::vector<float> first = run<TestType>(experts.packed(), experts.shape(m, k), *a, r);
      output twice(m, 96);
      twice.data = first;
      moe_workspace workspace = *moe_workspace::create(experts.shape(m, k));
      REQUIRE(moe<TestType>(experts.packed(), *a, r.expert_view(), r.weight_view(), twice.view(), workspace, {true, {}})
                  .ok());
      CHECK(same_bits(twice.data, expected.data));
    }
}

TEMPLATE_LIST_TEST_CASE("int8 moe: biases and other activations, the definition's bits", "[moe][equal]",
                        mxfp4::test::arches) {
  splitmix random(56);
  expert_memory<layout::compressed_tensors> experts(5, 96, 64, random);
  experts.add_biases(random);
  for (const hidden_act act : {hidden_act::silu, hidden_act::gpt_oss, hidden_act::gelu_tanh})
    for (const auto& [m, k] : {std::pair{1, 5}, {7, 2}, {40, 3}}) {
      CAPTURE(static_cast<int>(act), m, k);
      const routing r(m, k, 5, random);
      const tokens x = random_tokens(m, 96, random);
      const result<int8_activations> a = quantize_activations<TestType>(x.view(), int8_scaling::e8m0);
      output expected(m, 96);
      reference_moe(experts, x, int8_scaling::e8m0, r, expected.view(), false, act);
      const moe_options options{.act = act};
      CHECK(same_bits(run<TestType>(experts.packed(), experts.shape(m, k), *a, r, options), expected.data));
      CHECK(same_bits(run<TestType>(experts.views(), experts.shape(m, k), *a, r, options), expected.data));
    }
}

TEMPLATE_LIST_TEST_CASE("moe: shared experts, the bits of the definition and of a second call", "[moe][equal]",
                        mxfp4::test::arches) {
  splitmix random(57);
  const std::int64_t h = 96;
  expert_memory<layout::compressed_tensors> experts(5, h, 64, random), shared(2, h, 160, random);
  experts.add_biases(random);
  shared.add_biases(random);
  for (const std::pair<int, int>& size : {std::pair{1, 2}, {7, 2}, {40, 1}, {3, 0}})
    for (const bool weighted : {false, true}) {
      const int m = size.first, k = size.second;
      CAPTURE(m, k, weighted);
      const routing r(m, k, 5, random);
      routing all(m, 2, 2, random);  // both, in their order
      for (std::size_t i = 0; i < all.indices.size(); ++i) all.indices[i] = static_cast<std::int32_t>(i % 2);
      if (!weighted) std::ranges::fill(all.weights, 1.0f);
      moe_shape shape = experts.shape(m, k);
      shape.shared_experts = 2;
      shape.shared_intermediate = 160;
      const tokens x = random_tokens(m, h, random);
      const result<int8_activations> a = quantize_activations<TestType>(x.view(), int8_scaling::e8m0);
      const auto check_of = [&](const auto& list, const auto& shared_list) {
        using matrix = std::remove_const_t<std::remove_reference_t<decltype(shared_list[0].gate)>>;
        const shared_experts<matrix> both{shared_list, weighted ? all.weight_view() : dense_view<const float>{}};
        for (const bool accumulate : {false, true}) {
          moe_workspace workspace = *moe_workspace::create(shape);
          const moe_options options{.accumulate = accumulate};
          output expected(m, h), y(m, h);
          reference_moe(experts, x, int8_scaling::e8m0, r, expected.view(), accumulate);
          reference_moe(shared, x, int8_scaling::e8m0, all, expected.view(), true);
          REQUIRE(moe<TestType>(list, both, *a, r.expert_view(), r.weight_view(), y.view(), workspace, options).ok());
          CHECK(same_bits(y.data, expected.data));
          output twice(m, h), once(m, h);
          moe_workspace large = *moe_workspace::create({m, 2, 5, h, 160});
          REQUIRE(moe<dialect::ocp, TestType>(list, x.view(), r.expert_view(), r.weight_view(), twice.view(), large,
                                              options)
                      .ok());
          REQUIRE(moe<dialect::ocp, TestType>(shared_list, x.view(), all.expert_view(), all.weight_view(), twice.view(),
                                              large, {.accumulate = true})
                      .ok());
          REQUIRE(moe<dialect::ocp, TestType>(list, both, x.view(), r.expert_view(), r.weight_view(), once.view(),
                                              workspace, options)
                      .ok());
          CHECK(same_bits(once.data, twice.data));
        }
      };
      check_of(experts.packed(), shared.packed());
      check_of(experts.views(), shared.packed());
    }
}

TEST_CASE("moe: tasks, their order and threads change nothing", "[moe][equal]") {
  splitmix random(52);
  // large enough for several tasks an expert
  expert_memory<layout::compressed_tensors> experts(3, 1024, 2048, random);
  experts.add_biases(random);  // a task takes its part of them
  const auto packed = experts.packed();
  for (const std::int64_t m : {1, 9}) {
    const routing r(m, 2, 3, random);
    const tokens x = random_tokens(m, 1024, random);
    const result<int8_activations> a = quantize_activations(x.view(), int8_scaling::e8m0);
    const moe_shape shape = experts.shape(m, 2);
    const std::vector<float> y = run<simd::native_arch>(packed, shape, *a, r);
    output defined(m, 1024);
    reference_moe(experts, x, int8_scaling::e8m0, r, defined.view());
    CHECK(same_bits(y, defined.data));
    const std::vector<float> y_f32 = run<simd::native_arch>(packed, shape, x.view(), r);
    backward_executor backward;
    CHECK(same_bits(run<simd::native_arch>(packed, shape, *a, r, {false, backward}), y));
    CHECK(backward.tasks >= 10);
    CHECK(same_bits(run<simd::native_arch>(packed, shape, x.view(), r, {false, backward}), y_f32));
    for (std::size_t count = 2; count <= 4; ++count) {
      const threads team{count};
      CHECK(same_bits(run<simd::native_arch>(packed, shape, *a, r, {false, team}), y));
      CHECK(same_bits(run<simd::native_arch>(packed, shape, x.view(), r, {false, team}), y_f32));
    }
  }
}

TEST_CASE("moe: a token alone, among others, and under other names of experts", "[moe][property]") {
  splitmix random(53);
  const std::int64_t m = 37, k = 3, h = 64, e = 6;
  expert_memory<layout::compressed_tensors> experts(e, h, 96, random);
  const routing r(m, k, e, random);
  const tokens x = random_tokens(m, h, random);
  const auto packed = experts.packed();
  const auto quantized = [](const tokens& t) { return *quantize_activations(t.view(), int8_scaling::e8m0); };
  const std::vector<float> y = run<simd::native_arch>(packed, experts.shape(m, k), quantized(x), r);
  const std::vector<float> y_f32 = run<simd::native_arch>(packed, experts.shape(m, k), x.view(), r);
  CHECK(same_bits(run<simd::native_arch>(experts.views(), experts.shape(m, k), x.view(), r), y_f32));

  SECTION("alone (int8), in a pair (f32: one token is gemv's)") {
    for (const std::int64_t t : {0, 15, 16, 36}) {
      CAPTURE(t);
      routing alone(2, k, e, random);
      tokens pair = random_tokens(2, h, random);
      for (std::int64_t i = 0; i < h; ++i) pair.at(1, i) = x.view().row(t)[i];
      std::copy_n(r.indices.begin() + t * k, k, alone.indices.begin() + k);
      std::copy_n(r.weights.begin() + t * k, k, alone.weights.begin() + k);
      const auto row = [&](const std::vector<float>& all, std::int64_t i) {
        return std::vector<float>(all.begin() + i * (h + 3), all.begin() + i * (h + 3) + h);
      };
      CHECK(same_bits(row(run<simd::native_arch>(packed, experts.shape(2, k), pair.view(), alone), 1), row(y_f32, t)));
      routing one(1, k, e, random);
      std::copy_n(r.indices.begin() + t * k, k, one.indices.begin());
      std::copy_n(r.weights.begin() + t * k, k, one.weights.begin());
      tokens single(1, h);
      single.fill([&](std::int64_t, std::int64_t i) { return x.view().row(t)[i]; });
      CHECK(same_bits(row(run<simd::native_arch>(packed, experts.shape(1, k), quantized(single), one), 0), row(y, t)));
    }
  }
  SECTION("more tokens of an expert than a panel holds (f32)") {
    routing all(150, 1, e, random), two(2, 1, e, random);
    std::ranges::fill(all.indices, 4);
    two.indices = {1, 4};
    const tokens many = random_tokens(150, h, random);
    const std::vector<float> batch = run<simd::native_arch>(packed, experts.shape(150, 1), many.view(), all);
    for (const std::int64_t t : {0, 7, 8, 127, 128, 149}) {
      CAPTURE(t);
      tokens pair = random_tokens(2, h, random);
      for (std::int64_t i = 0; i < h; ++i) pair.at(1, i) = many.view().row(t)[i];
      two.weights[1] = all.weights[static_cast<std::size_t>(t)];
      const std::vector<float> y2 = run<simd::native_arch>(packed, experts.shape(2, 1), pair.view(), two);
      CHECK(std::equal(y2.begin() + h + 3, y2.begin() + 2 * h + 3, batch.begin() + t * (h + 3)));
    }
  }
  SECTION("experts renamed") {
    auto renamed = experts.packed();
    std::rotate(renamed.begin(), renamed.begin() + 2, renamed.end());
    routing s = r;
    for (std::int32_t& i : s.indices) i = static_cast<std::int32_t>((i + e - 2) % e);
    CHECK(same_bits(run<simd::native_arch>(renamed, experts.shape(m, k), quantized(x), s), y));
    CHECK(same_bits(run<simd::native_arch>(renamed, experts.shape(m, k), x.view(), s), y_f32));
  }
  SECTION("tokens reversed") {
    tokens back(m, h);
    back.fill([&](std::int64_t t, std::int64_t i) { return x.view().row(m - 1 - t)[i]; });
    routing s = r;
    for (std::int64_t t = 0; t < m; ++t) {
      std::copy_n(r.indices.begin() + (m - 1 - t) * k, k, s.indices.begin() + t * k);
      std::copy_n(r.weights.begin() + (m - 1 - t) * k, k, s.weights.begin() + t * k);
    }
    const std::vector<float> reversed = run<simd::native_arch>(packed, experts.shape(m, k), quantized(back), s);
    for (std::int64_t t = 0; t < m; ++t)
      for (std::int64_t i = 0; i < h; ++i)
        REQUIRE(same_bits(reversed[static_cast<std::size_t>((m - 1 - t) * (h + 3) + i)],
                          y[static_cast<std::size_t>(t * (h + 3) + i)]));
  }
  SECTION("a larger, used workspace") {
    moe_workspace workspace = *moe_workspace::create({200, 4, 9, 256, 128});
    for (int turn = 0; turn < 2; ++turn) {
      output again(m, h);
      REQUIRE(moe(packed, x.view(), r.expert_view(), r.weight_view(), again.view(), workspace).ok());
      CHECK(same_bits(again.data, y_f32));
      REQUIRE(moe(packed, quantized(x), r.expert_view(), r.weight_view(), again.view(), workspace).ok());
      CHECK(same_bits(again.data, y));
    }
  }
}

TEST_CASE("moe: NaN comes from where it is used and from nowhere else", "[moe][special]") {
  splitmix random(54);
  const std::int64_t m = 6, h = 64, e = 4;
  for (const bool in_down : {false, true}) {
    expert_memory<layout::compressed_tensors> experts(e, h, 64, random);
    auto& broken = experts.experts[2];
    for (std::int64_t n = 0; n < h; ++n)
      for (std::int64_t b = 0; b < 2; ++b) (in_down ? broken.down : broken.gate).scale(n, b) = 255;
    routing r(m, 1, e, random);
    r.indices = {0, 1, 3, 2, 0, 1};
    const tokens x = random_tokens(m, h, random);
    const auto check = [&](const std::vector<float>& y) {
      for (std::int64_t t = 0; t < m; ++t)
        for (std::int64_t n = 0; n < h; ++n) {
          const float v = y[static_cast<std::size_t>(t * (h + 3) + n)];
          if (r.indices[static_cast<std::size_t>(t)] == 2) REQUIRE(std::bit_cast<std::uint32_t>(v) == 0x7FC00000u);
          else REQUIRE(std::isfinite(v));
        }
    };
    check(run<simd::native_arch>(experts.packed(), experts.shape(m, 1), x.view(), r));
    check(run<simd::native_arch>(experts.views(), experts.shape(m, 1), x.view(), r));
    for (const int8_scaling s :
         {int8_scaling::e8m0, int8_scaling::f32, int8_scaling::row, int8_scaling::residual2, int8_scaling::residual3})
      check(run<simd::native_arch>(experts.packed(), experts.shape(m, 1), *quantize_activations(x.view(), s), r));
  }
  // a token with NaN, or with infinity, poisons itself alone
  expert_memory<layout::compressed_tensors> experts(e, h, 64, random);
  const routing r(m, 2, e, random);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const int8_scaling s :
         {int8_scaling::e8m0, int8_scaling::f32, int8_scaling::row, int8_scaling::residual2, int8_scaling::residual3}) {
      tokens x = random_tokens(m, h, random);
      const auto clean =
          run<simd::native_arch>(experts.packed(), experts.shape(m, 2), *quantize_activations(x.view(), s), r);
      x.at(4, 40) = bad;
      const auto y =
          run<simd::native_arch>(experts.packed(), experts.shape(m, 2), *quantize_activations(x.view(), s), r);
      for (std::int64_t t = 0; t < m; ++t)
        for (std::int64_t n = 0; n < h; ++n) {
          const auto at = static_cast<std::size_t>(t * (h + 3) + n);
          if (t == 4) REQUIRE(std::isnan(y[at]));
          else REQUIRE(same_bits(y[at], clean[at]));
        }
    }
}

TEST_CASE("moe: extreme scales, saturated codes and -0 in int8", "[moe][special]") {
  splitmix random(55);
  for (const int byte : {0, 1, 60, 200, 252, 253, 254}) {
    CAPTURE(byte);
    expert_memory<layout::ggml> experts(3, 64, 32, random, byte, byte);
    for (std::int64_t k = 0; k < 64; ++k) experts.experts[0].gate.set_code(3, k, k % 2 == 0 ? 7 : 8);
    const routing r(5, 2, 3, random);
    const tokens x = random_tokens(5, 64, random);
    output expected(5, 64);
    reference_moe(experts, x, int8_scaling::e8m0, r, expected.view());
    const result<int8_activations> a = quantize_activations(x.view(), int8_scaling::e8m0);
    CHECK(same_bits(run<simd::native_arch>(experts.packed(), experts.shape(5, 2), *a, r), expected.data));
    CHECK(same_bits(run<simd::native_arch>(experts.views(), experts.shape(5, 2), *a, r), expected.data));
  }
}
