// tests/grouped_gemm.equal.test.cpp -- a product for each expert: gemm's bits for each group, however it is run.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "mxfp4/linalg.hpp"
#include "mxfp4/moe.hpp"
#include "support/arches.hpp"
#include "support/backward_executor.hpp"
#include "support/product.hpp"
#include "support/threads.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using ct = layout::compressed_tensors;

/// E matrices N x K, and the offsets of their tokens.
struct layer {
  layer(std::int64_t n, std::int64_t k, const std::vector<std::int64_t>& counts, splitmix& random)
      : rows(n), cols(k), offsets{0} {
    for (const std::int64_t count : counts) {
      offsets.push_back(offsets.back() + count);
      matrices.emplace_back(n, k, 1, 2);
      fill(matrices.back(), n, k, byte_range(118, 124), random);
      for (std::int64_t i = 0; i < n; ++i) bias.push_back(random.with_exponent(124, 131));
    }
  }
  std::vector<const_mx_view<>> views() {
    std::vector<const_mx_view<>> all;
    for (auto& m : matrices) all.push_back(m.view());
    return all;
  }
  std::vector<packed_matrix> packed() {
    std::vector<packed_matrix> all;
    for (auto& m : matrices) all.push_back(*pack(m.view()));
    return all;
  }
  std::int64_t experts() const { return static_cast<std::int64_t>(matrices.size()); }
  std::int64_t tokens() const { return offsets.back(); }
  grouped_gemm_shape shape() const { return {tokens(), experts(), rows, cols}; }
  dense_view<const float> bias_view() const { return {bias.data(), experts(), rows, rows}; }

  std::int64_t rows, cols;
  std::vector<mx_memory<ct>> matrices;
  std::vector<std::int64_t> offsets;
  std::vector<float> bias;
};

template <class T>
struct results {
  results(std::int64_t m, std::int64_t n)
      : rows(m), cols(n), data(static_cast<std::size_t>(m * (n + 5)), encode<T>(-7.0f)) {}
  dense_view<T> view() { return {data.data(), rows, cols, cols + 5}; }
  std::int64_t rows, cols;
  std::vector<T> data;
};

template <class T>
dense_view<T> rows_between(const dense_view<T>& v, std::int64_t first, std::int64_t last) {
  return {v.row(first), last - first, v.cols, v.stride};
}

/// The layer's tokens: random, every seventh element 0.
tokens random_tokens(std::int64_t m, std::int64_t k, splitmix& random) {
  return tokens(m, k, 3).fill([&](auto, std::int64_t i) { return i % 7 == 3 ? 0.0f : random.with_exponent(120, 130); });
}

/// grouped_gemm of `l` in T for all executors, against `expected`; `run` calls it.
template <class T, class Run>
void check_runs(const layer& l, const results<T>& expected, Run&& run) {
  backward_executor backward;
  const threads several{3};
  for (const executor_ref executor : {executor_ref(serial), executor_ref(backward), executor_ref(several)}) {
    moe_workspace workspace = *moe_workspace::create_grouped(l.shape());
    results<T> y(l.tokens(), l.rows);
    REQUIRE(run(y.view(), workspace, executor).ok());
    CHECK((y.data == expected.data));
  }
}

/// For float activations of any type, and for int8: `x`'s part of a group.
template <class Arch, class T, class W, class X, class Part>
void check_groups(const layer& l, const std::vector<W>& weights, const X& x, Part&& part) {
  for (const bool biased : {false, true}) {
    CAPTURE(biased, sizeof(T));
    results<T> expected(l.tokens(), l.rows);
    for (std::int64_t e = 0; e < l.experts(); ++e) {
      const auto at = static_cast<std::size_t>(e);
      const std::int64_t first = l.offsets[at], last = l.offsets[at + 1];
      if (first == last) continue;
      gemm_options options;
      if (biased) options.bias = {l.bias_view().row(e), static_cast<std::size_t>(l.rows)};
      const dense_view<T> y = rows_between(expected.view(), first, last);
      if constexpr (std::is_same_v<X, int8_activations>)
        REQUIRE(gemm<Arch>(weights[at], part(first, last), y, options).ok());
      else REQUIRE(gemm<dialect::ocp, Arch>(weights[at], part(first, last), y, options).ok());
    }
    grouped_gemm_options options;
    if (biased) options.bias = l.bias_view();
    check_runs(l, expected, [&](const dense_view<T>& y, moe_workspace& workspace, const executor_ref& executor) {
      options.executor = executor;
      if constexpr (std::is_same_v<X, int8_activations>)
        return grouped_gemm<Arch>(weights, l.offsets, x, y, workspace, options);
      else return grouped_gemm<dialect::ocp, Arch>(weights, l.offsets, x, y, workspace, options);
    });
  }
}

/// No tokens, one, a few, more than a register tile, more than a pass, and again none.
const std::vector<std::int64_t> some{0, 1, 3, 17, 140, 0, 2, 1, 0};

}  // namespace

TEMPLATE_LIST_TEST_CASE("grouped gemm in f32: gemm's bits for each group", "[grouped][equal]", arches) {
  splitmix random(41);
  layer l(150, 96, some, random);
  const tokens x = random_tokens(l.tokens(), 96, random);
  const auto part = [&](std::int64_t first, std::int64_t last) { return rows_between(x.view(), first, last); };
  check_groups<TestType, float>(l, l.views(), x.view(), part);
  check_groups<TestType, float>(l, l.packed(), x.view(), part);
  check_groups<TestType, bf16>(l, l.views(), x.view(), part);
  check_groups<TestType, f16>(l, l.packed(), x.view(), part);
}

TEMPLATE_LIST_TEST_CASE("grouped gemm in int8: gemm's bits for each group", "[grouped][int8][equal]", arches) {
  splitmix random(42);
  layer l(50, 64, some, random);
  const tokens x = random_tokens(l.tokens(), 64, random);
  for (const int8_scaling scaling :
       {int8_scaling::e8m0, int8_scaling::f32, int8_scaling::row, int8_scaling::residual2, int8_scaling::residual3}) {
    CAPTURE(static_cast<int>(scaling));
    const int8_activations all = *quantize_activations<TestType>(x.view(), scaling);
    const auto part = [&](std::int64_t first, std::int64_t last) {
      return *quantize_activations<TestType>(rows_between(x.view(), first, last), scaling);
    };
    check_groups<TestType, float>(l, l.views(), all, part);
    check_groups<TestType, bf16>(l, l.packed(), all, part);
  }
}

TEMPLATE_TEST_CASE("grouped gemm: other activations, dialects", "[grouped][equal]", bf16, f16, e4m3) {
  splitmix random(43);
  layer l(40, 64, {2, 0, 1, 9}, random);
  l.matrices[0].scale(3, 1) = 255;
  tokens x = random_tokens(l.tokens(), 64, random);
  std::vector<TestType> narrow(static_cast<std::size_t>(l.tokens() * 64));
  for (std::int64_t i = 0; i < l.tokens() * 64; ++i) {
    narrow[static_cast<std::size_t>(i)] = encode<TestType>(x.at(i / 64, i % 64));
    x.at(i / 64, i % 64) = decode(narrow[static_cast<std::size_t>(i)]);
  }
  const dense_view<TestType> view{narrow.data(), l.tokens(), 64, 64};
  moe_workspace workspace = *moe_workspace::create_grouped(l.shape());
  for (const dialect_id dialect : {dialect_id::ocp, dialect_id::inf_at_255, dialect_id::ggml}) {
    results<f16> a(l.tokens(), 40), b(l.tokens(), 40);
    REQUIRE(grouped_gemm(dialect, l.packed(), l.offsets, view, a.view(), workspace).ok());
    REQUIRE(grouped_gemm(dialect, l.views(), l.offsets, x.view(), b.view(), workspace).ok());
    CHECK((a.data == b.data));
    CHECK(((decode(a.view().row(1)[3]) != decode(a.view().row(1)[3])) || dialect != dialect_id::ocp));
  }
}

TEST_CASE("grouped gemm: against the products in double", "[grouped][accuracy]") {
  splitmix random(44);
  layer l(33, 160, {1, 0, 7, 70}, random);
  tokens x = random_tokens(l.tokens(), 160, random);
  results<float> y(l.tokens(), 33);
  moe_workspace workspace = *moe_workspace::create_grouped(l.shape());
  REQUIRE(grouped_gemm(l.packed(), l.offsets, x.view(), y.view(), workspace, {.bias = l.bias_view()}).ok());
  const double u = 0x1p-24, gamma = 160 * u / (1 - 160 * u);
  std::int64_t outside = 0;
  for (std::size_t e = 0; e < 4; ++e)
    for (std::int64_t m = l.offsets[e]; m < l.offsets[e + 1]; ++m) {
      const tokens one = tokens(1, 160).fill([&](auto, std::int64_t k) { return x.at(m, k); });
      const exact_product exact(l.matrices[e], 33, one);
      for (std::int64_t n = 0; n < 33; ++n) {
        const auto at = static_cast<std::size_t>(n);
        const double sum = exact.sum[at] + static_cast<double>(l.bias_view().row(static_cast<std::int64_t>(e))[n]);
        const double bound = gamma * exact.magnitudes[at] * (1 + u) + u * std::fabs(sum);
        outside += !(std::fabs(static_cast<double>(y.view().row(m)[n]) - sum) <= bound);
      }
    }
  CHECK(outside == 0);
}

TEST_CASE("grouped gemm: a small one by hand", "[grouped][golden]") {
  // Three experts, K = 32: expert e's weights are all 1 under scale 2^e, its bias is 10 e.
  const std::int64_t n = 2, k = 32;
  std::vector<mx_memory<ct>> matrices;
  for (int e = 0; e < 3; ++e) {
    matrices.emplace_back(n, k);
    for (std::int64_t r = 0; r < n; ++r) {
      matrices.back().scale(r, 0) = static_cast<std::uint8_t>(127 + e);
      for (std::int64_t i = 0; i < k; ++i) matrices.back().set_code(r, i, 2);
    }
  }
  const std::vector<const_mx_view<>> views{matrices[0].view(), matrices[1].view(), matrices[2].view()};
  const std::vector<std::int64_t> offsets{1, 2, 2, 4};  // rows 0 and 4 are nobody's, expert 1 has none
  const std::vector<float> bias{0, 0, 10, 10, 20, 21};
  tokens x(5, k);
  x.fill([](std::int64_t m, std::int64_t i) { return i < 2 ? static_cast<float>(m) : 0.0f; });
  std::vector<float> y(10, -1.0f);
  moe_workspace workspace = *moe_workspace::create_grouped(grouped_gemm_shape{5, 3, n, k});
  REQUIRE(grouped_gemm(views, offsets, x.view(), dense_view<float>{y.data(), 5, n, n}, workspace,
                       {.bias = {bias.data(), 3, n, n}})
              .ok());
  CHECK(y == std::vector<float>{-1, -1, 2, 2, 16 + 20, 16 + 21, 24 + 20, 24 + 21, -1, -1});
  const int8_activations a = *quantize_activations(x.view(), int8_scaling::e8m0);
  std::fill(y.begin(), y.end(), -1.0f);
  REQUIRE(grouped_gemm(views, offsets, a, dense_view<float>{y.data(), 5, n, n}, workspace).ok());
  CHECK(y == std::vector<float>{-1, -1, 2, 2, 16, 16, 24, 24, -1, -1});
}

TEST_CASE("grouped gemm: the memory of a layer's moe() does for its products", "[grouped][property]") {
  splitmix random(45);
  const moe_shape layer_shape{7, 2, 3, 64, 96};
  layer gate_up(192, 64, {4, 0, 10}, random), down(64, 96, {4, 0, 10}, random);
  moe_workspace workspace = *moe_workspace::create(layer_shape);
  const tokens x = random_tokens(14, 64, random);
  results<bf16> y(14, 192);
  CHECK(grouped_gemm(gate_up.packed(), gate_up.offsets, x.view(), y.view(), workspace).ok());
  const tokens hidden = random_tokens(14, 96, random);
  results<bf16> z(14, 64);
  CHECK(grouped_gemm(down.packed(), down.offsets, hidden.view(), z.view(), workspace).ok());
}

TEST_CASE("grouped gemm: bad input", "[grouped][bad_input]") {
  splitmix random(46);
  layer l(32, 64, {1, 2, 0, 3}, random);
  std::vector<const_mx_view<>> views = l.views();
  tokens x = random_tokens(6, 64, random);
  const int8_activations a = *quantize_activations(x.view(), int8_scaling::e8m0);
  moe_workspace workspace = *moe_workspace::create_grouped(l.shape());
  std::vector<std::int64_t> offsets = l.offsets;
  results<float> y(6, 32);
  dense_view<float> to = y.view();
  grouped_gemm_options options;
  const auto say = [](const status& s) { return std::string(message(s).view()); };
  const auto both = [&](const char* sentence) {
    CHECK(say(grouped_gemm(views, offsets, x.view(), to, workspace, options)) == sentence);
    CHECK(say(grouped_gemm(views, offsets, a, to, workspace, options)) == sentence);
    CHECK(std::all_of(y.data.begin(), y.data.end(), [](float v) { return v == -7.0f; }));
  };
  SECTION("offsets") {
    offsets.pop_back();
    both("offsets.size is 4, expected 5");
    offsets = {0, 3, 1, 3, 6};
    both("offsets (number 2) is 1, expected at least 3, the one before it");
    offsets = {0, 1, 3, 3, 7};
    both("offsets (number 4) is 7, expected 0 to 6");
    offsets = {-1, 1, 3, 3, 6};
    both("offsets (number 0) is -1, expected 0 to 6");
  }
  SECTION("shapes") {
    to = {y.data.data(), 5, 32, 37};
    both("y.rows is 5, expected 6");
    to = {y.data.data(), 6, 31, 37};
    both("weights.rows (number 0) is 32, expected 31");
    to = y.view();
    views[3].cols = 32;
    both("weights.cols (number 3) is 32, expected 64");
    views[3].cols = 64;
    views[1].rows = 33;
    both("weights.rows (number 1) is 33, expected 32");
    views[1].rows = 32;
    views[2] = {};  // has no tokens, so it is not looked at
    CHECK(grouped_gemm(views, offsets, x.view(), to, workspace).ok());
  }
  SECTION("biases") {
    options.bias = {l.bias.data(), 3, 32, 32};
    both("bias.rows is 3, expected 4");
    options.bias = {l.bias.data(), 4, 31, 32};
    both("bias.cols is 31, expected 32");
    options.bias = {l.bias.data(), 4, 32, 31};
    both("bias.stride is 31, expected at least 32, the length of a row");
  }
  SECTION("memory") {
    moe_workspace small = *moe_workspace::create_grouped(grouped_gemm_shape{1, 4, 32, 64});
    const status s = grouped_gemm(views, offsets, x.view(), to, small);
    CHECK((s.code == errc::buffer_too_small && s.value == small.bytes() && s.expected == workspace.bytes()));
    CHECK(say(moe_workspace::create_grouped(grouped_gemm_shape{1, 1, 32, 33}).error()) ==
          "grouped_gemm_shape.cols is 33, expected a multiple of 32: pad the rows, or leave this tensor as it is");
    CHECK(moe_workspace::create_grouped(grouped_gemm_shape{-1, 1, 32, 32}).error().code == errc::negative_size);
    CHECK(moe_workspace::create_grouped(grouped_gemm_shape{std::int64_t{1} << 61, 1, 32, 32}).error().code ==
          errc::size_overflow);
  }
  SECTION("overlap") {
    const auto refused = [&](const dense_view<float>& out, const grouped_gemm_options& o = {}) {
      return say(grouped_gemm(views, offsets, x.view(), out, workspace, o)) ==
             "y overlaps an input: pass separate memory";
    };
    CHECK(refused({x.data.data(), 6, 32, 64}));
    CHECK(refused({reinterpret_cast<float*>(offsets.data()), 6, 32, 32}));
    CHECK(refused({l.bias.data(), 6, 32, 32}, {.bias = l.bias_view()}));
  }
  SECTION("no tokens, no experts, no rows") {
    offsets.assign(5, 0);
    CHECK(grouped_gemm(views, offsets, dense_view<const float>{nullptr, 0, 64, 64},
                       dense_view<float>{nullptr, 0, 32, 32}, workspace)
              .ok());
    CHECK(grouped_gemm(views, offsets, x.view(), to, workspace).ok());
    const std::vector<const_mx_view<>> none;
    const std::vector<std::int64_t> one{2};
    CHECK(grouped_gemm(none, one, x.view(), to, workspace).ok());
    CHECK(say(grouped_gemm(none, std::span<const std::int64_t>{}, x.view(), to, workspace)) ==
          "offsets.size is 0, expected 1");
    CHECK(std::all_of(y.data.begin(), y.data.end(), [](float v) { return v == -7.0f; }));
  }
}
