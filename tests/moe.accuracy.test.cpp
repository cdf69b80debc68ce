// tests/moe.accuracy.test.cpp -- the f32 moe against double, within a bound from its operations; int8 beside it.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

#include "mxfp4/moe/moe.hpp"
#include "support/arches.hpp"
#include "support/moe.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

/// The largest |y - exact| / bound.
double worst(const output& y, const exact_moe& exact) {
  double most = 0;
  for (std::int64_t m = 0; m < y.rows; ++m)
    for (std::int64_t n = 0; n < y.cols; ++n) {
      const auto i = static_cast<std::size_t>(m * y.cols + n);
      const double off = std::fabs(static_cast<double>(y.at(m, n)) - exact.value[i]) / exact.bound[i];
      if (!(off <= most)) most = off;  // NaN too
    }
  return most;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("f32 moe: within the bound, from views and packed, one token and many", "[moe][accuracy]",
                        mxfp4::test::arches) {
  splitmix random(61);
  expert_memory<layout::compressed_tensors> experts(4, 320, 96, random, 121, 126);
  for (const std::int64_t m : {1, 2, 19}) {
    const routing r(m, 3, 4, random);
    const tokens x =
        tokens(m, 320, 1).fill([&random](std::int64_t, std::int64_t) { return random.with_exponent(121, 127); });
    const exact_moe exact(experts, x, r);
    moe_workspace workspace = *moe_workspace::create(experts.shape(m, 3));
    output packed(m, 320), view(m, 320);
    REQUIRE(moe<dialect::ocp, TestType>(experts.packed(), x.view(), r.expert_view(), r.weight_view(), packed.view(),
                                        workspace)
                .ok());
    REQUIRE(
        moe<dialect::ocp, TestType>(experts.views(), x.view(), r.expert_view(), r.weight_view(), view.view(), workspace)
            .ok());
    CAPTURE(m);
    CHECK(worst(packed, exact) <= 1.0);
    CHECK(worst(view, exact) <= 1.0);
    const auto size = [](double a, double b) { return std::fabs(a) < std::fabs(b); };  // a bound that says something
    CHECK(*std::ranges::max_element(exact.bound) <= 0x1p-8 * std::fabs(*std::ranges::max_element(exact.value, size)));
  }
}

TEMPLATE_LIST_TEST_CASE("f32 moe: biases and other activations, within the bound", "[moe][accuracy]",
                        mxfp4::test::arches) {
  splitmix random(67);
  expert_memory<layout::compressed_tensors> experts(4, 96, 64, random, 119, 124);
  experts.add_biases(random);
  for (const hidden_act act : {hidden_act::silu, hidden_act::gpt_oss, hidden_act::gelu_tanh})
    for (const std::int64_t m : {1, 19}) {
      CAPTURE(static_cast<int>(act), m);
      const routing r(m, 3, 4, random);
      const tokens x =
          tokens(m, 96, 1).fill([&random](std::int64_t, std::int64_t) { return random.with_exponent(121, 127); });
      const exact_moe exact(experts, x, r, act);
      moe_workspace workspace = *moe_workspace::create(experts.shape(m, 3));
      const auto with = [&](const auto& list, const moe_options& options) {
        output y(m, 96);
        REQUIRE(
            moe<dialect::ocp, TestType>(list, x.view(), r.expert_view(), r.weight_view(), y.view(), workspace, options)
                .ok());
        return y;
      };
      CHECK(worst(with(experts.packed(), {.act = act}), exact) <= 1.0);
      CHECK(worst(with(experts.views(), {.act = act}), exact) <= 1.0);
      for (const hidden_act other : {hidden_act::silu, hidden_act::gpt_oss, hidden_act::gelu_tanh})
        if (other != act) CHECK(worst(with(experts.packed(), {.act = other}), exact) > 100.0);
      for (int bias = 0; bias < 3; ++bias) {  // each of them is needed
        auto without = experts.packed();
        for (auto& e : without) (bias == 0 ? e.gate_bias : bias == 1 ? e.up_bias : e.down_bias) = nullptr;
        CHECK(worst(with(without, {.act = act}), exact) > 100.0);
      }
      if (act != hidden_act::gpt_oss) continue;
      CHECK(worst(with(experts.packed(), {.act = act, .alpha = 1.0f}), exact) > 100.0);
      CHECK(worst(with(experts.packed(), {.act = act, .limit = 2.0f}), exact) > 100.0);
    }
}

TEST_CASE("f32 moe: gate and up whose rows take turns are two views", "[moe][accuracy]") {
  splitmix random(68);
  expert_memory<layout::gpt_oss> apart(1, 64, 32, random, 119, 124);
  const routing r(3, 1, 1, random);
  const tokens x = tokens(3, 64).fill([&random](std::int64_t, std::int64_t) { return random.with_exponent(121, 127); });
  auto& e = apart.experts[0];
  mx_memory<layout::gpt_oss> turns(64, 64);
  for (std::int64_t n = 0; n < 32; ++n)
    for (std::int64_t k = 0; k < 64; ++k) {
      turns.set_code(2 * n, k, e.gate.code(n, k));
      turns.set_code(2 * n + 1, k, e.up.code(n, k));
      turns.scale(2 * n, k / 32) = static_cast<std::uint8_t>(e.gate.scale(n, k / 32));
      turns.scale(2 * n + 1, k / 32) = static_cast<std::uint8_t>(e.up.scale(n, k / 32));
    }
  const auto all = turns.view();
  const auto every_other = [&all](int first) {
    return const_mx_view<layout::gpt_oss>{all.codes + first * all.code_stride,
                                          all.scales + first * all.scale_stride,
                                          32,
                                          64,
                                          2 * all.code_stride,
                                          2 * all.scale_stride};
  };
  auto views = apart.views();
  moe_workspace workspace = *moe_workspace::create(apart.shape(3, 1));
  output expected(3, 64), y(3, 64);
  REQUIRE(moe(views, x.view(), r.expert_view(), r.weight_view(), expected.view(), workspace).ok());
  views[0].gate = every_other(0);
  views[0].up = every_other(1);
  REQUIRE(moe(views, x.view(), r.expert_view(), r.weight_view(), y.view(), workspace).ok());
  CHECK(y.data == expected.data);
}

TEST_CASE("f32 moe: more columns than a pass takes", "[moe][accuracy]") {
  splitmix random(66);
  expert_memory<layout::compressed_tensors> experts(1, 8224, 32, random, 118, 121);
  for (const std::int64_t m : {1, 2}) {
    const routing r(m, 1, 1, random);
    const tokens x =
        tokens(m, 8224).fill([&random](std::int64_t, std::int64_t) { return random.with_exponent(121, 127); });
    const exact_moe exact(experts, x, r);
    moe_workspace workspace = *moe_workspace::create(experts.shape(m, 1));
    output y(m, 8224);
    CAPTURE(m);
    REQUIRE(moe(experts.packed(), x.view(), r.expert_view(), r.weight_view(), y.view(), workspace).ok());
    CHECK(worst(y, exact) <= 1.0);
    REQUIRE(moe(experts.views(), x.view(), r.expert_view(), r.weight_view(), y.view(), workspace).ok());
    CHECK(worst(y, exact) <= 1.0);
  }
}

TEST_CASE("moe: int8 is near f32", "[moe][accuracy]") {
  splitmix random(62);
  expert_memory<layout::compressed_tensors> experts(4, 256, 128, random, 118, 121);
  const routing r(9, 3, 4, random);
  const tokens x =
      tokens(9, 256).fill([&random](std::int64_t, std::int64_t) { return random.with_exponent(121, 127); });
  const exact_moe exact(experts, x, r);
  moe_workspace workspace = *moe_workspace::create(experts.shape(9, 3));
  for (const int8_scaling scaling :
       {int8_scaling::e8m0, int8_scaling::f32, int8_scaling::row, int8_scaling::residual2, int8_scaling::residual3}) {
    output y(9, 256);
    const result<int8_activations> a = quantize_activations(x.view(), scaling);
    REQUIRE(moe(experts.packed(), *a, r.expert_view(), r.weight_view(), y.view(), workspace).ok());
    double error = 0, norm = 0;
    for (std::int64_t m = 0; m < 9; ++m)
      for (std::int64_t n = 0; n < 256; ++n) {
        const double e = exact.value[static_cast<std::size_t>(m * 256 + n)];
        error += std::pow(static_cast<double>(y.at(m, n)) - e, 2);
        norm += e * e;
      }
    CAPTURE(static_cast<int>(scaling));
    // steps of 2^-7 or 1/254 of amax, of 2^-15, of 2^-23, three times over
    CHECK(std::sqrt(error / norm) < (terms_of(scaling) == 1 ? 0.03 : terms_of(scaling) == 2 ? 1.2e-4 : 1e-6));
  }
}

TEST_CASE("moe: powers of two are exact", "[moe][exact]") {
  // Expert e: gate row n has one weight 1 (2^0 * code 2) at column 0, up row n one at column n; down row n one at
  // column n, scale 2^(e - 1). With x[0] = 64, silu(64) is 64 in float: so hidden = 64 x[n] and y[n] = sum of w 2^(e-1)
  // 64 x[n].
  const std::int64_t h = 64;
  expert_memory<layout::compressed_tensors> experts = [] {
    splitmix random(63);
    return expert_memory<layout::compressed_tensors>(4, 64, 64, random, 127, 127);
  }();
  for (std::size_t e = 0; e < 4; ++e)
    for (auto* const w : {&experts.experts[e].gate, &experts.experts[e].up, &experts.experts[e].down})
      for (std::int64_t n = 0; n < h; ++n) {
        for (std::int64_t k = 0; k < h; ++k) w->set_code(n, k, 0);
        w->set_code(n, w == &experts.experts[e].gate ? 0 : n, 2);
        if (w == &experts.experts[e].down)
          for (std::int64_t b = 0; b < 2; ++b) w->scale(n, b) = static_cast<std::uint8_t>(126 + e);
      }
  for (const std::int64_t m : {1, 3}) {
    tokens x(m, h);
    x.fill([](std::int64_t t, std::int64_t k) { return k == 0 ? 64.0f : static_cast<float>((k * 7 + t) % 33 - 16); });
    splitmix random(64);
    routing r(m, 2, 4, random);
    for (std::int64_t t = 0; t < m; ++t) {
      r.indices[static_cast<std::size_t>(2 * t)] = static_cast<std::int32_t>((t + 3) % 4);
      r.indices[static_cast<std::size_t>(2 * t + 1)] = static_cast<std::int32_t>(t % 4);
      r.weights[static_cast<std::size_t>(2 * t)] = 0.75f;
      r.weights[static_cast<std::size_t>(2 * t + 1)] = -0.25f;
    }
    moe_workspace workspace = *moe_workspace::create(experts.shape(m, 2));
    output y(m, h), packed(m, h), int8(m, h);
    REQUIRE(moe(experts.views(), x.view(), r.expert_view(), r.weight_view(), y.view(), workspace).ok());
    REQUIRE(moe(experts.packed(), x.view(), r.expert_view(), r.weight_view(), packed.view(), workspace).ok());
    const result<int8_activations> a = quantize_activations(x.view(), int8_scaling::e8m0);  // integers below 65: exact
    REQUIRE(moe(experts.packed(), *a, r.expert_view(), r.weight_view(), int8.view(), workspace).ok());
    for (std::int64_t t = 0; t < m; ++t)
      for (std::int64_t n = 0; n < h; ++n) {
        const double scale = 0.75 * std::ldexp(1.0, static_cast<int>((t + 3) % 4) - 1) -
                             0.25 * std::ldexp(1.0, static_cast<int>(t % 4) - 1);
        const double expected = scale * 64.0 * static_cast<double>(x.view().row(t)[n]);
        CAPTURE(m, t, n);
        CHECK(static_cast<double>(y.at(t, n)) == expected);
        CHECK(static_cast<double>(packed.at(t, n)) == expected);
        CHECK(static_cast<double>(int8.at(t, n)) == expected);
      }
  }
}

TEST_CASE("moe: other element types and layouts", "[moe][accuracy]") {
  splitmix random(65);
  expert_memory<layout::ggml> experts(3, 64, 32, random, 122, 126);
  const routing r(5, 2, 3, random);
  std::vector<bf16> narrow(5 * 64);
  tokens x(5, 64);
  for (std::size_t i = 0; i < narrow.size(); ++i) {
    narrow[i] = encode<bf16>(random.with_exponent(121, 127));
    x.data[i] = decode(narrow[i]);
  }
  moe_workspace workspace = *moe_workspace::create(experts.shape(5, 2));
  output wide(5, 64), y(5, 64);
  REQUIRE(moe(experts.views(), x.view(), r.expert_view(), r.weight_view(), wide.view(), workspace).ok());
  REQUIRE(moe(experts.packed(), dense_view<const bf16>{narrow.data(), 5, 64, 64}, r.expert_view(), r.weight_view(),
              y.view(), workspace)
              .ok());
  CHECK(same_bits(wide.data, y.data));
  CHECK(worst(y, exact_moe(experts, x, r)) <= 1.0);
}
