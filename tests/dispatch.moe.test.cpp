// tests/dispatch.moe.test.cpp -- dispatch::moe in int8 and the router: the definition's bits on every instruction set.
// SPDX-License-Identifier: Apache-2.0
//
// Compiled for any CPU and run once for each value of MXFP4_ISA (dispatch.cmake); dispatch.f32.test.cpp has moe in f32.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "mxfp4/dispatch.hpp"
#include "support/backward_executor.hpp"
#include "support/moe.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

#define SKIP_WITHOUT_ISA() \
  if (!dispatch::isa()) SKIP("MXFP4_ISA names an instruction set that is not there")

std::string say(const status& s) { return std::string(message(s).view()); }

tokens random_tokens(std::int64_t m, std::int64_t k, splitmix& random) {
  return tokens(m, k, 5).fill([&random](std::int64_t, std::int64_t) { return random.with_exponent(118, 127); });
}

template <class Layout>
std::vector<expert<packed_matrix>> packed(expert_memory<Layout>& memory) {
  std::vector<expert<packed_matrix>> all;
  for (auto& e : memory.experts)
    all.push_back({*dispatch::pack(e.gate.view()), *dispatch::pack(e.up.view()), *dispatch::pack(e.down.view())});
  return all;
}

template <class Layout>
std::vector<expert<mx_view<Layout>>> mutable_views(expert_memory<Layout>& memory) {
  std::vector<expert<mx_view<Layout>>> all;
  for (auto& e : memory.experts) all.push_back({e.gate.view(), e.up.view(), e.down.view()});
  return all;
}

/// The int8 moe of experts in `Layout` against the definition, a token at a time.
template <class Layout>
void check_int8(std::int64_t m, std::int64_t k, int8_scaling scaling) {
  CAPTURE(Layout::name, m, k, static_cast<int>(scaling));
  splitmix random(static_cast<std::uint64_t>(m * 8 + k));
  expert_memory<Layout> memory(5, 96, 64, random);
  routing r(m, k, 5, random);
  if (m == 40) std::ranges::fill(r.indices, 3);  // several units of one expert
  const tokens x = random_tokens(m, 96, random);
  const result<int8_activations> a = dispatch::quantize_activations(x.view(), scaling);
  REQUIRE(a);
  moe_workspace workspace = *moe_workspace::create(memory.shape(m, k));
  output expected(m, 96);
  reference_moe(memory, x, scaling, r, expected.view());
  const auto check_of = [&](const auto& experts) {
    output y(m, 96);
    backward_executor backward;
    const moe_options options{false, backward};
    REQUIRE(dispatch::moe(experts, *a, r.expert_view(), r.weight_view(), y.view(), workspace, options).ok());
    CHECK(same_bits(y.data, expected.data));
    CHECK(backward.rounds == 5);
  };
  check_of(packed(memory));
  check_of(mutable_views(memory));
  check_of(memory.views());
  output y = expected;
  REQUIRE(dispatch::moe(packed(memory), *a, r.expert_view(), r.weight_view(), y.view(), workspace, {true, {}}).ok());
  reference_moe(memory, x, scaling, r, expected.view(), true);
  CHECK(same_bits(y.data, expected.data));
}

}  // namespace

TEST_CASE("dispatch::moe in int8: the definition's bits", "[dispatch][moe]") {
  SKIP_WITHOUT_ISA();
  for (const auto& [m, k] : {std::pair{1, 1}, {1, 5}, {2, 3}, {7, 2}, {40, 1}})
    check_int8<layout::compressed_tensors>(m, k, int8_scaling::e8m0);
  check_int8<layout::compressed_tensors>(7, 2, int8_scaling::row);
  check_int8<layout::compressed_tensors>(7, 2, int8_scaling::residual2);
  check_int8<layout::compressed_tensors>(40, 1, int8_scaling::residual3);
  check_int8<layout::gpt_oss>(7, 2, int8_scaling::e8m0);
}

TEST_CASE("dispatch in int8: groups, roundings, shared experts, the definition's bits", "[dispatch][moe]") {
  SKIP_WITHOUT_ISA();
  splitmix random(12);
  expert_memory<layout::compressed_tensors> memory(3, 96, 64, random), shared(2, 96, 128, random);
  const std::int64_t m = 9;
  const tokens x = random_tokens(m, 96, random);
  const int8_activations a = *dispatch::quantize_activations(x.view(), int8_scaling::e8m0);
  moe_workspace workspace = *moe_workspace::create({m, 2, 3, 96, 64, 2, 128});
  const std::vector<std::int64_t> offsets{0, 1, 1, m};
  std::vector<packed_matrix> tiles;
  std::vector<const_mx_view<>> views;
  std::vector<float> sums(static_cast<std::size_t>(m * 64)), bias(64);
  for (float& v : bias) v = random.with_exponent(120, 127);
  for (std::size_t e = 0; e < 3; ++e) {
    tiles.push_back(*dispatch::pack(memory.experts[e].up.view()));
    views.push_back(memory.experts[e].up.view());
  }
  for (const std::size_t e : {0u, 2u}) {
    const std::int64_t first = offsets[e], count = offsets[e + 1] - first;
    const dense_view<const float> part{x.view().row(first), count, 96, x.stride};
    const dense_view<float> to{sums.data() + first * 64, count, 64, 64};
    REQUIRE(reference::gemm(views[e], *dispatch::quantize_activations(part, int8_scaling::e8m0), to).ok());
  }
  std::vector<float> y(sums.size());
  const dense_view<float> to_y{y.data(), m, 64, 64};
  REQUIRE(dispatch::grouped_gemm(tiles, offsets, a, to_y, workspace).ok());
  CHECK(same_bits(y, sums));
  REQUIRE(dispatch::grouped_gemm(views, offsets, a, to_y, workspace).ok());
  CHECK(same_bits(y, sums));

  std::vector<bf16> narrow(sums.size());
  const dense_view<bf16> to_narrow{narrow.data(), m, 64, 64};
  REQUIRE(reference::gemm(views[1], a, dense_view<float>{sums.data(), m, 64, 64}).ok());
  const auto check_narrow = [&] {
    for (std::size_t i = 0; i < sums.size(); ++i) CHECK(narrow[i] == encode_bf16(sums[i] + bias[i % 64]));
  };
  REQUIRE(dispatch::gemm(tiles[1], a, to_narrow, {.bias = bias}).ok());
  check_narrow();
  REQUIRE(dispatch::gemm(views[1], a, to_narrow, {.bias = bias}).ok());
  check_narrow();

  const routing r(m, 2, 3, random);
  routing all(m, 2, 2, random);
  for (std::size_t i = 0; i < all.indices.size(); ++i) all.indices[i] = static_cast<std::int32_t>(i % 2);
  output expected(m, 96), got(m, 96);
  reference_moe(memory, x, int8_scaling::e8m0, r, expected.view());
  reference_moe(shared, x, int8_scaling::e8m0, all, expected.view(), true);
  const auto shared_views = shared.views();
  const auto shared_tiles = packed(shared);
  const shared_experts<const_mx_view<>> by_view{shared_views, all.weight_view()};
  const shared_experts<packed_matrix> by_tile{shared_tiles, all.weight_view()};
  REQUIRE(dispatch::moe(packed(memory), by_view, a, r.expert_view(), r.weight_view(), got.view(), workspace).ok());
  CHECK(same_bits(got.data, expected.data));
  REQUIRE(dispatch::moe(memory.views(), by_tile, a, r.expert_view(), r.weight_view(), got.view(), workspace).ok());
  CHECK(same_bits(got.data, expected.data));
  CHECK(message(dispatch::gemm(tiles[1], a, to_narrow, {.bias = std::span(bias).first(3)})).view() ==
        "bias.size is 3, expected 64");
  CHECK(message(dispatch::grouped_gemm(tiles, std::span(offsets).first(3), a, to_y, workspace)).view() ==
        "offsets.size is 3, expected 4");
  CHECK(dispatch::grouped_gemm(static_cast<dialect_id>(9), tiles, offsets, x.view(), to_y, workspace).code ==
        errc::unknown_dialect);
}

TEST_CASE("dispatch::moe: biases and other activations, the definition's bits", "[dispatch][moe]") {
  SKIP_WITHOUT_ISA();
  splitmix random(11);
  expert_memory<layout::compressed_tensors> memory(5, 96, 64, random);
  memory.add_biases(random);
  const auto with_biases = [&memory](auto list) {
    const auto from = memory.views();
    for (std::size_t e = 0; e < list.size(); ++e) {
      list[e].gate_bias = from[e].gate_bias;
      list[e].up_bias = from[e].up_bias;
      list[e].down_bias = from[e].down_bias;
    }
    return list;
  };
  for (const hidden_act act : {hidden_act::silu, hidden_act::gpt_oss, hidden_act::gelu_tanh}) {
    CAPTURE(static_cast<int>(act));
    const routing r(7, 2, 5, random);
    const tokens x = random_tokens(7, 96, random);
    const result<int8_activations> a = dispatch::quantize_activations(x.view(), int8_scaling::e8m0);
    REQUIRE(a);
    moe_workspace workspace = *moe_workspace::create(memory.shape(7, 2));
    output expected(7, 96), y(7, 96), f32(7, 96);
    reference_moe(memory, x, int8_scaling::e8m0, r, expected.view(), false, act);
    const exact_moe exact(memory, x, r, act);
    const moe_options options{.act = act};
    const auto check_of = [&](const auto& list) {
      REQUIRE(dispatch::moe(list, *a, r.expert_view(), r.weight_view(), y.view(), workspace, options).ok());
      CHECK(same_bits(y.data, expected.data));
      REQUIRE(dispatch::moe(list, x.view(), r.expert_view(), r.weight_view(), f32.view(), workspace, options).ok());
      for (std::int64_t m = 0; m < 7; ++m)
        for (std::int64_t n = 0; n < 96; ++n) {
          const auto at = static_cast<std::size_t>(m * 96 + n);
          REQUIRE(std::fabs(static_cast<double>(f32.at(m, n)) - exact.value[at]) <= exact.bound[at]);
        }
    };
    check_of(with_biases(packed(memory)));
    check_of(memory.views());
  }
}

TEST_CASE("dispatch::moe: NaN stays with its token, which experts without tokens do not see", "[dispatch][moe]") {
  SKIP_WITHOUT_ISA();
  splitmix random(5);
  expert_memory<layout::compressed_tensors> memory(3, 64, 32, random);
  auto views = memory.views();
  views[1] = {};  // nobody's: may be anything
  routing r(3, 1, 3, random);
  r.indices = {0, 2, 0};
  tokens x = tokens(3, 64).fill([](std::int64_t, std::int64_t) { return 1.0f; });
  x.at(1, 40) = std::numeric_limits<float>::quiet_NaN();
  const result<int8_activations> a = dispatch::quantize_activations(x.view(), int8_scaling::e8m0);
  moe_workspace workspace = *moe_workspace::create(memory.shape(3, 1));
  output f32(3, 64), int8(3, 64);
  REQUIRE(dispatch::moe(views, x.view(), r.expert_view(), r.weight_view(), f32.view(), workspace).ok());
  REQUIRE(dispatch::moe(views, *a, r.expert_view(), r.weight_view(), int8.view(), workspace).ok());
  for (std::int64_t n = 0; n < 64; ++n) {
    REQUIRE((std::isfinite(f32.at(0, n)) && std::isfinite(f32.at(2, n)) && std::isnan(f32.at(1, n))));
    REQUIRE((std::isfinite(int8.at(0, n)) && std::isfinite(int8.at(2, n)) && std::isnan(int8.at(1, n))));
  }
}

TEST_CASE("dispatch::moe: bad arguments", "[dispatch][moe][bad_input]") {
  SKIP_WITHOUT_ISA();
  splitmix random(6);
  const std::int64_t m = 4, k = 2, h = 64, i = 32;
  expert_memory<layout::compressed_tensors> memory(3, h, i, random);
  auto views = memory.views();
  const auto tiles = packed(memory);
  routing r(m, k, 3, random);
  r.indices = {0, 2, 2, 0, 0, 2, 0, 2};
  tokens x = tokens(m, h).fill([](std::int64_t, std::int64_t) { return 1.0f; });
  const std::vector<e4m3> narrow(static_cast<std::size_t>(m * h));
  const dense_view<const e4m3> fp8{narrow.data(), m, h, h};
  const result<int8_activations> a = dispatch::quantize_activations(x.view(), int8_scaling::e8m0);
  output y(m, h);
  moe_workspace workspace = *moe_workspace::create(memory.shape(m, k));
  const auto all = [&](const char* sentence) {
    const auto run = [&](const auto& experts, const auto& in) {
      return say(dispatch::moe(experts, in, r.expert_view(), r.weight_view(), y.view(), workspace));
    };
    CHECK(run(views, x.view()) == sentence);
    CHECK(run(views, *a) == sentence);
    CHECK(run(tiles, fp8) == sentence);
    CHECK(run(tiles, *a) == sentence);
  };
  r.indices[5] = 3;
  all("indices (row 2, column 1) is 3, expected 0 to 2");
  r.indices[5] = -1;
  all("indices (row 2, column 1) is -1, expected 0 to 2");
  r.indices[5] = 0;
  r.rows = 3;
  all("indices.rows is 3, expected 4");
  r.rows = m;
  moe_workspace none;
  std::swap(none, workspace);
  all(("workspace.bytes holds 0, expected at least " + std::to_string(none.bytes()) + ": pass a larger buffer")
          .c_str());
  std::swap(none, workspace);

  views[2].down.cols = 0;
  const auto of_views = [&](dense_view<const float> in) {
    return say(dispatch::moe(views, in, r.expert_view(), r.weight_view(), y.view(), workspace));
  };
  CHECK(of_views(x.view()) == "down.cols (number 2) is 0, expected 32");
  views[2].down.cols = i;
  CHECK(of_views({nullptr, m, h, h}) == "x.data is null, expected memory for 256 elements");
  CHECK(of_views({x.data.data(), m, h, h - 1}) == "x.stride is 63, expected at least 64, the length of a row");
  CHECK(of_views({x.data.data(), m, 48, h}) ==
        "x.cols is 48, expected a multiple of 32: pad the rows, or leave this tensor as it is");
  CHECK(of_views({y.data.data(), m, h, h}) == "y overlaps an input: pass separate memory");
  const std::vector<expert<packed_matrix>> nobody;
  CHECK(say(dispatch::moe(nobody, *a, r.expert_view(), r.weight_view(), y.view(), workspace)) ==
        "indices (row 0, column 0) is 0, expected none, as there is nothing to choose from");
  for (const float v : y.data) REQUIRE(v == -7.0f);

  struct broken {
    void run(std::size_t, task_ref) const { throw std::runtime_error("no threads"); }
  } executor;
  CHECK_THROWS_AS(
      static_cast<void>(
          dispatch::moe(tiles, *a, r.expert_view(), r.weight_view(), y.view(), workspace, {false, executor}).ok()),
      std::runtime_error);
}

TEST_CASE("dispatch::route_topk_sigmoid: the bits of plain C++", "[dispatch][router]") {
  SKIP_WITHOUT_ISA();
  constexpr std::int64_t m = 37, e = 256, k = 8;
  splitmix random(7);
  tokens logits = tokens(m, e, 3).fill(
      [&](std::int64_t, std::int64_t) { return static_cast<float>(random.in(-4096, 4096)) * 0x1p-9f; });
  logits.at(3, 17) = -std::numeric_limits<float>::infinity();
  logits.at(4, 18) = 90.0f;
  for (std::int64_t n = 0; n < e; ++n) logits.at(5, n) = -200.0f;  // all of them are 0
  std::vector<float> bias(e);
  for (float& b : bias) b = static_cast<float>(random.in(-64, 64)) * 0x1p-8f;
  for (const float* const choice : {static_cast<const float*>(nullptr), static_cast<const float*>(bias.data())})
    for (const bool renormalize : {true, false}) {
      std::vector<std::int32_t> expected(m * k, -1), got = expected;
      std::vector<float> expected_weights(m * k), weights = expected_weights;
      backward_executor backward;
      const route_options options{renormalize, 2.5f, backward};
      REQUIRE(route_topk_sigmoid(logits.view(), choice, {expected.data(), m, k, k}, {expected_weights.data(), m, k, k},
                                 options)
                  .ok());
      REQUIRE(
          dispatch::route_topk_sigmoid(logits.view(), choice, {got.data(), m, k, k}, {weights.data(), m, k, k}, options)
              .ok());
      CHECK(got == expected);
      CHECK(same_bits(weights, expected_weights));
      CHECK(backward.rounds == 2);
    }
  std::vector<std::int32_t> indices(m * k, -1);
  std::vector<float> weights(m * k, -7.0f);
  bias[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(say(dispatch::route_topk_sigmoid(logits.view(), bias.data(), {indices.data(), m, k, k},
                                         {weights.data(), m, k, k})) ==
        "bias (number 3) is NaN, expected a number: repair the input");
  CHECK(std::ranges::all_of(indices, [](std::int32_t v) { return v == -1; }));
  CHECK(std::ranges::all_of(weights, [](float v) { return v == -7.0f; }));
}

TEST_CASE("dispatch::route_topk: the bits of plain C++", "[dispatch][router]") {
  SKIP_WITHOUT_ISA();
  constexpr std::int64_t m = 37, e = 64, k = 4;
  splitmix random(8);
  const tokens logits = tokens(m, e, 3).fill(
      [&](std::int64_t, std::int64_t) { return static_cast<float>(random.in(-4096, 4096)) * 0x1p-9f; });
  for (const scoring_func scoring : {scoring_func::sigmoid, scoring_func::softmax, scoring_func::softmax_of_chosen})
    for (const std::int64_t groups : {1, 8}) {
      std::vector<std::int32_t> expected(m * k, -1), got = expected;
      std::vector<float> expected_weights(m * k), weights = expected_weights;
      const route_options options{.scoring = scoring, .n_group = groups, .topk_group = groups / 2};
      REQUIRE(
          route_topk(logits.view(), nullptr, {expected.data(), m, k, k}, {expected_weights.data(), m, k, k}, options)
              .ok());
      REQUIRE(
          dispatch::route_topk(logits.view(), nullptr, {got.data(), m, k, k}, {weights.data(), m, k, k}, options).ok());
      CHECK(got == expected);
      CHECK(same_bits(weights, expected_weights));
    }
}

TEST_CASE("dispatch::moe: a dialect that is none is refused before anything is written", "[dispatch][moe]") {
  SKIP_WITHOUT_ISA();
  splitmix random(3);
  expert_memory<layout::compressed_tensors> memory(5, 96, 64, random);
  const routing r(2, 3, 5, random);
  const tokens x = random_tokens(2, 96, random);
  moe_workspace workspace = *moe_workspace::create(memory.shape(2, 3));
  output y(2, 96), untouched(2, 96);
  const auto views = memory.views();
  CHECK(
      dispatch::moe(static_cast<dialect_id>(9), views, x.view(), r.expert_view(), r.weight_view(), y.view(), workspace)
          .code == errc::unknown_dialect);
  CHECK(y.data == untouched.data);
}
