// tests/dispatch.f32.test.cpp -- products with float sums: the bits of the header-only functions for the same flags.
// SPDX-License-Identifier: Apache-2.0
//
// Compiled once for each instruction set and run with MXFP4_ISA set to it.
#include <catch2/catch_test_macros.hpp>
#include <vector>

#include "mxfp4/dispatch.hpp"
#include "mxfp4/linalg.hpp"
#include "mxfp4/moe.hpp"
#include "support/moe.hpp"

namespace {

using namespace mxfp4;

/// Scale bytes.
const std::vector<std::uint8_t> any_size{0, 1, 2, 90, 120, 121, 122, 127, 130, 252, 253, 254, 255};
const std::vector<std::uint8_t> one_size = test::byte_range(116, 124);

/// The same bits, but for what a NaN carries; both have the canonical one then.
bool same_canonical(std::vector<float>& a, std::vector<float>& b) {
  for (float& v : a) v = detail::canonical(v);
  for (float& v : b) v = detail::canonical(v);
  return test::same_bits(a, b);
}

template <class Layout, class T>
void check_products(std::int64_t m, const std::vector<std::uint8_t>& bytes) {
  constexpr std::int64_t n = 70, k = 416;
  CAPTURE(Layout::name, sizeof(T), m);
  test::splitmix random(static_cast<std::uint64_t>(m) + sizeof(T));
  test::mx_memory<Layout> w(n, k);
  test::fill(w, n, k, bytes, random);
  std::vector<T> x(static_cast<std::size_t>(m * k));
  for (T& v : x) v = encode<T>(random.with_exponent(110, 130));
  const dense_view<const T> tokens{x.data(), m, k, k};
  const result<packed_matrix> packed = pack(w.view());
  REQUIRE(packed);
  std::vector<float> a(static_cast<std::size_t>(m * n), 0.5f), b = a;
  const dense_view<float> to_a{a.data(), m, n, n}, to_b{b.data(), m, n, n};
  for (const bool accumulate : {false, true}) {
    REQUIRE(gemm(w.view(), tokens, to_a, {.accumulate = accumulate}).ok());
    REQUIRE(dispatch::gemm(w.view(), tokens, to_b, {.accumulate = accumulate}).ok());
    CHECK(same_canonical(a, b));
    REQUIRE(gemm(*packed, tokens, to_a, {.accumulate = accumulate}).ok());
    REQUIRE(dispatch::gemm(*packed, tokens, to_b, {.accumulate = accumulate}).ok());
    CHECK(same_canonical(a, b));
  }
  for (const dialect_id dialect : {dialect_id::inf_at_255, dialect_id::ggml}) {
    CAPTURE(static_cast<int>(dialect));
    REQUIRE(gemm(dialect, w.view(), tokens, to_a).ok());
    REQUIRE(dispatch::gemm(dialect, w.view(), tokens, to_b).ok());
    CHECK(same_canonical(a, b));
    REQUIRE(gemm(dialect, *packed, tokens, to_a).ok());
    REQUIRE(dispatch::gemm(dialect, *packed, tokens, to_b).ok());
    CHECK(same_canonical(a, b));
  }
}

/// A bias, and outputs in T.
template <class T>
void check_rounded(std::int64_t m) {
  constexpr std::int64_t n = 300, k = 96;
  CAPTURE(m);
  test::splitmix random(static_cast<std::uint64_t>(m) + 70);
  test::mx_memory<layout::compressed_tensors> w(n, k);
  test::fill(w, n, k, one_size, random);
  const test::tokens x =
      test::tokens(m, k).fill([&random](std::int64_t, std::int64_t) { return random.with_exponent(110, 130); });
  std::vector<float> bias(n);
  for (float& v : bias) v = random.with_exponent(120, 127);
  const mxfp8_activations q = *quantize_activations(x.view(), mxfp8_scaling::floor);
  const packed_matrix packed = *pack(w.view());
  const auto check = [&](const auto& weights, const auto& tokens) {
    for (const bool accumulate : {false, true}) {
      std::vector<T> a(static_cast<std::size_t>(m * n), encode<T>(0.5f)), b = a;
      const gemm_options options{.accumulate = accumulate, .bias = bias};
      REQUIRE(gemm(weights, tokens, dense_view<T>{a.data(), m, n, n}, options).ok());
      REQUIRE(dispatch::gemm(weights, tokens, dense_view<T>{b.data(), m, n, n}, options).ok());
      CHECK((a == b));
    }
  };
  check(w.view(), x.view());
  check(packed, x.view());
  check(packed, q);
  check(w.view(), q);
}

/// grouped_gemm, and moe with shared experts.
template <class T>
void check_groups() {
  test::splitmix random(95);
  test::expert_memory<layout::compressed_tensors> memory(4, 96, 64, random), shared(1, 96, 128, random);
  std::vector<packed_matrix> packed;
  std::vector<const_mx_view<>> views;
  for (auto& e : memory.experts) {
    packed.push_back(*pack(e.gate.view()));
    views.push_back(e.gate.view());
  }
  const std::vector<std::int64_t> offsets{0, 1, 1, 15, 18};
  const test::tokens x =
      test::tokens(18, 96).fill([&random](std::int64_t, std::int64_t) { return random.with_exponent(118, 127); });
  std::vector<float> bias(4 * 64, 0.25f);
  const grouped_gemm_options options{.bias = {bias.data(), 4, 64, 64}};
  moe_workspace workspace = *moe_workspace::create({18, 1, 4, 96, 64, 1, 128});
  std::vector<T> a(18 * 64), b(a.size());
  const dense_view<T> to_a{a.data(), 18, 64, 64}, to_b{b.data(), 18, 64, 64};
  REQUIRE(grouped_gemm(packed, offsets, x.view(), to_a, workspace, options).ok());
  REQUIRE(dispatch::grouped_gemm(packed, offsets, x.view(), to_b, workspace, options).ok());
  CHECK((a == b));
  REQUIRE(grouped_gemm(views, offsets, x.view(), to_a, workspace, options).ok());
  REQUIRE(dispatch::grouped_gemm(dialect_id::ocp, views, offsets, x.view(), to_b, workspace, options).ok());
  CHECK((a == b));
  for (const std::int64_t m : {1, 18}) {
    const test::routing r(m, 1, 4, random);
    const dense_view<const float> token{x.data.data(), m, 96, 96};
    const std::vector<float> gate(static_cast<std::size_t>(m), 0.75f);
    test::output c(m, 96), d(m, 96);
    const auto views_of_shared = shared.views();
    const shared_experts<const_mx_view<>> one{views_of_shared, {gate.data(), m, 1, 1}};
    REQUIRE(moe(memory.packed(), one, token, r.expert_view(), r.weight_view(), c.view(), workspace).ok());
    REQUIRE(dispatch::moe(memory.packed(), one, token, r.expert_view(), r.weight_view(), d.view(), workspace).ok());
    CHECK(test::same_bits(c.data, d.data));
    const auto packed_shared = shared.packed();
    const shared_experts<packed_matrix> same{packed_shared, {gate.data(), m, 1, 1}};
    REQUIRE(moe(memory.views(), same, token, r.expert_view(), r.weight_view(), c.view(), workspace).ok());
    REQUIRE(dispatch::moe(memory.views(), same, token, r.expert_view(), r.weight_view(), d.view(), workspace).ok());
    CHECK(test::same_bits(c.data, d.data));
  }
}

template <class Layout>
void check_mxfp8(std::int64_t m, const std::vector<std::uint8_t>& bytes) {
  constexpr std::int64_t n = 70, k = 416;
  CAPTURE(Layout::name, m);
  test::splitmix random(static_cast<std::uint64_t>(m) + 50);
  test::mx_memory<Layout> w(n, k);
  test::fill(w, n, k, bytes, random);
  const test::tokens x =
      test::tokens(m, k).fill([&random](std::int64_t, std::int64_t) { return random.with_exponent(110, 130); });
  const result<mxfp8_activations> q = quantize_activations(x.view(), mxfp8_scaling::floor);
  const result<packed_matrix> packed = pack(w.view());
  REQUIRE((q && packed));
  std::vector<float> a(static_cast<std::size_t>(m * n), 0.5f), b = a;
  const dense_view<float> to_a{a.data(), m, n, n}, to_b{b.data(), m, n, n};
  REQUIRE(gemm(w.view(), *q, to_a, {.accumulate = true}).ok());
  REQUIRE(dispatch::gemm(w.view(), *q, to_b, {.accumulate = true}).ok());
  CHECK(same_canonical(a, b));
  REQUIRE(gemm(*packed, *q, to_a).ok());
  REQUIRE(dispatch::gemm(*packed, *q, to_b).ok());
  CHECK(same_canonical(a, b));
}

template <class T>
void check_moe(std::int64_t m) {
  CAPTURE(sizeof(T), m);
  test::splitmix random(static_cast<std::uint64_t>(m) + sizeof(T) + 90);
  test::expert_memory<layout::compressed_tensors> memory(5, 96, 64, random);
  for (auto& e : memory.experts) {  // element 3 of y: 0.5 under scale byte 255, which each dialect reads in its own way
    e.down.scale(3, 1) = 255;
    for (std::int64_t k = 32; k < 64; ++k) e.down.set_code(3, k, 1);
  }
  test::routing r(m, 3, 5, random);
  if (m == 1) r.indices[2] = r.indices[0];  // an expert may be asked twice for a token
  std::vector<T> x(static_cast<std::size_t>(m * 96));
  for (T& v : x) v = encode<T>(random.with_exponent(118, 127));
  const dense_view<const T> tokens{x.data(), m, 96, 96};
  moe_workspace workspace = *moe_workspace::create(memory.shape(m, 3));
  const auto check_of = [&](const auto& experts) {
    test::output a(m, 96), b(m, 96);
    REQUIRE(moe(experts, tokens, r.expert_view(), r.weight_view(), a.view(), workspace).ok());
    REQUIRE(dispatch::moe(experts, tokens, r.expert_view(), r.weight_view(), b.view(), workspace).ok());
    CHECK(test::same_bits(a.data, b.data));
    for (const dialect_id dialect : {dialect_id::ocp, dialect_id::inf_at_255, dialect_id::ggml}) {
      CAPTURE(static_cast<int>(dialect));
      test::output c(m, 96), d(m, 96);
      REQUIRE(moe(dialect, experts, tokens, r.expert_view(), r.weight_view(), c.view(), workspace).ok());
      REQUIRE(dispatch::moe(dialect, experts, tokens, r.expert_view(), r.weight_view(), d.view(), workspace).ok());
      CHECK(test::same_bits(c.data, d.data));
      if (dialect == dialect_id::ggml && m == 33) CHECK_FALSE(test::same_bits(c.data, a.data));
    }
  };
  if constexpr (std::same_as<T, float>) check_of(memory.views());
  else check_of(memory.packed());
}

}  // namespace

TEST_CASE("dispatch: float sums as the header-only functions add them", "[dispatch]") {
  if (!dispatch::isa()) SKIP("this CPU lacks the instructions of this build");
  for (const std::int64_t m : {1, 2, 13}) {
    check_products<layout::compressed_tensors, float>(m, any_size);
    check_products<layout::ggml, bf16>(m, one_size);  // what is added to Y shows
    check_products<layout::compressed_tensors, f16>(m, any_size);
  }
}

TEST_CASE("dispatch: outputs that are rounded as the header-only functions round them", "[dispatch]") {
  if (!dispatch::isa()) SKIP("this CPU lacks the instructions of this build");
  for (const std::int64_t m : {1, 3, 70}) {
    check_rounded<float>(m);
    check_rounded<bf16>(m);
    check_rounded<f16>(m);
  }
}

TEST_CASE("dispatch: groups and shared experts as the header-only functions have them", "[dispatch]") {
  if (!dispatch::isa()) SKIP("this CPU lacks the instructions of this build");
  check_groups<float>();
  check_groups<bf16>();
}

TEST_CASE("dispatch: products of MXFP8 as the header-only functions add them", "[dispatch]") {
  if (!dispatch::isa()) SKIP("this CPU lacks the instructions of this build");
  for (const std::int64_t m : {1, 13}) check_mxfp8<layout::compressed_tensors>(m, one_size);
  check_mxfp8<layout::ggml>(2, any_size);
}

TEST_CASE("dispatch: moe in f32 as the header-only function adds", "[dispatch]") {
  if (!dispatch::isa()) SKIP("this CPU lacks the instructions of this build");
  for (const std::int64_t m : {1, 2, 33}) {
    check_moe<float>(m);
    check_moe<bf16>(m);
    check_moe<f16>(m);
  }
}
