// tests/dispatch.threads.test.cpp -- mxfp4::dispatch called by several threads at once, and giving work to several.
// SPDX-License-Identifier: Apache-2.0
//
// Of use under ThreadSanitizer (preset tsan); the bits are compared everywhere.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <vector>

#include "mxfp4/dispatch.hpp"
#include "support/moe.hpp"
#include "support/threads.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;

constexpr std::int64_t tokens_count = 19, hidden = 288, intermediate = 160, experts = 6, top_k = 3;

/// What every function gave.
struct outcome {
  std::vector<std::uint8_t> codes, scales, packed;
  std::vector<float> decoded, int8, f32, mxfp8, moe, moe_int8;
  bool operator==(const outcome&) const = default;
};

/// The same for any executor.
outcome call_all(executor_ref with) {
  splitmix random(31);
  outcome o;
  constexpr std::int64_t n = 515, k = hidden;
  tokens weights(n, k), x(tokens_count, k);
  for (tokens* t : {&weights, &x}) t->fill([&](auto, auto) { return random.with_exponent(118, 130); });
  o.codes.resize(n * k / 2);
  o.scales.resize(n * k / 32);
  o.decoded.resize(n * k);
  const mx_view<> w{o.codes.data(), o.scales.data(), n, k, k / 2, k / 32};
  REQUIRE(dispatch::quantize(recipe_id::ocp, weights.view(), w, {.executor = with}).ok());
  REQUIRE(dispatch::dequantize(w, dense_view<float>{o.decoded.data(), n, k, k}, {.executor = with}).ok());
  const result<packed_matrix> packed = dispatch::pack(w, {.executor = with});
  REQUIRE(packed);
  o.packed.assign(packed->bytes().begin(), packed->bytes().end());

  const gemm_options options{.executor = with};
  const result<int8_activations> a = dispatch::quantize_activations(x.view(), int8_scaling::e8m0, {.executor = with});
  const result<mxfp8_activations> b =
      dispatch::quantize_activations(x.view(), mxfp8_scaling::floor, {.executor = with});
  REQUIRE((a && b));
  const auto to = [](std::vector<float>& y, std::int64_t cols) {
    y.resize(static_cast<std::size_t>(tokens_count * cols));
    return dense_view<float>{y.data(), tokens_count, cols, cols};
  };
  REQUIRE(dispatch::gemm(*packed, *a, to(o.int8, n), options).ok());
  REQUIRE(dispatch::gemm(*packed, x.view(), to(o.f32, n), options).ok());
  REQUIRE(dispatch::gemm(*packed, *b, to(o.mxfp8, n), options).ok());

  expert_memory<> memory(experts, hidden, intermediate, random);
  const routing r(tokens_count, top_k, experts, random);
  moe_workspace workspace = *moe_workspace::create(memory.shape(tokens_count, top_k));
  const auto views = memory.views();
  const moe_options mixed{.executor = with};
  REQUIRE(dispatch::moe(views, x.view(), r.expert_view(), r.weight_view(), to(o.moe, hidden), workspace, mixed).ok());
  REQUIRE(dispatch::moe(views, *a, r.expert_view(), r.weight_view(), to(o.moe_int8, hidden), workspace, mixed).ok());
  return o;
}

}  // namespace

TEST_CASE("dispatch: the first calls of all come from several threads at once", "[dispatch][threads]") {
  std::vector<const char*> names(4);
  const auto ask = [&](std::size_t i) { names[i] = *dispatch::isa(); };
  threads{4}.run(4, ask);
  for (const char* const name : names) CHECK(name == names[0]);
}

TEST_CASE("dispatch: work given to 1 to 4 threads gives the serial bits", "[dispatch][threads]") {
  const outcome alone = call_all({});
  for (const std::size_t count : {1u, 2u, 3u, 4u}) {
    CAPTURE(count);
    const threads team{count};
    CHECK(call_all(team) == alone);
  }
}
