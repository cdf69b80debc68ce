// tests/dispatch.unavailable.test.cpp -- MXFP4_ISA names what is not there: every call says so and touches nothing.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <string>
#include <vector>

#include "mxfp4/dispatch.hpp"
#include "support/matrix.hpp"

using namespace mxfp4;

TEST_CASE("dispatch: an instruction set that is not there", "[dispatch]") {
  const result<const char*> isa = dispatch::isa();
  if (isa) SKIP("MXFP4_ISA is empty, or names one that is there");
  const char* const asked = std::getenv("MXFP4_ISA");
  REQUIRE(asked != nullptr);
  std::string list;
  for (const char* name : dispatch::available_isas()) list += (list.empty() ? "" : " ") + std::string(name);
  CHECK(isa.error().code == errc::isa_unavailable);
  CHECK(message(isa.error()).view() == "MXFP4_ISA is '" + std::string(asked) +
                                           "', expected one that this CPU and this build have: " + list +
                                           "; or unset it");

  const auto refuses = [](const status& s) { return s.code == errc::isa_unavailable; };
  constexpr std::int64_t n = 32, k = 64;
  std::vector<float> numbers(n * k, 1.0f), out(n * k, 2.0f), y(n * n, 3.0f);
  const std::vector<e4m3> fp8(n * k);
  const dense_view<const float> w{numbers.data(), n, k, k}, scales{numbers.data(), 1, 1, 1};
  const dense_view<float> to_y{y.data(), n, n, n};
  test::mx_memory<layout::compressed_tensors> mx(n, k);
  const packed_matrix packed = *packed_matrix::uninitialized(n, k);
  int8_activations q = *int8_activations::create(n, k);

  CHECK(refuses(dispatch::quantize(recipe_id::ocp, w, mx.view())));
  CHECK(
      refuses(dispatch::quantize_fp8(recipe_id::ocp, dense_view<const e4m3>{fp8.data(), n, k, k}, scales, mx.view())));
  std::vector<bf16> wide(n * k, bf16{0x4000});
  CHECK(refuses(dispatch::widen_fp8({fp8.data(), n, k, k}, scales, {wide.data(), n, k, k})));
  CHECK(std::ranges::all_of(wide, [](bf16 v) { return v == bf16{0x4000}; }));
  error_statistics sum;
  CHECK(refuses(dispatch::measure_error(w, mx.view(), sum)));
  CHECK(refuses(dispatch::quantize_fp8_measured(recipe_id::ocp, dense_view<const e4m3>{fp8.data(), n, k, k}, scales,
                                                mx.view(), sum)));
  CHECK(sum.weights == 0);
  CHECK(refuses(dispatch::dequantize(mx.view(), dense_view<float>{out.data(), n, k, k})));
  CHECK(refuses(dispatch::pack(mx.view()).error()));
  CHECK(refuses(dispatch::quantize_activations(w, q)));
  CHECK(refuses(dispatch::quantize_activations(w, int8_scaling::f32).error()));
  CHECK(refuses(dispatch::gemm(mx.view(), w, to_y)));
  CHECK(refuses(dispatch::gemm(packed, w, to_y)));
  CHECK(refuses(dispatch::gemm(mx.view(), q, to_y)));
  CHECK(refuses(dispatch::gemm(packed, q, to_y)));
  CHECK(refuses(dispatch::gemv(mx.view(), numbers, y)));
  CHECK(refuses(dispatch::gemv(packed, numbers, y)));
  CHECK(refuses(dispatch::gemm(dialect_id::ggml, mx.view(), w, to_y)));

  mxfp8_activations x8 = *mxfp8_activations::create(n, k);
  CHECK(refuses(dispatch::quantize_activations(w, x8.view())));
  CHECK(refuses(dispatch::quantize_activations(w, mxfp8_scaling::rceil).error()));
  CHECK(refuses(dispatch::gemm(mx.view(), x8, to_y)));
  CHECK(refuses(dispatch::gemm(packed, x8, to_y)));
  CHECK(refuses(dispatch::gemv(packed, x8, y)));
  const std::vector<expert<packed_matrix>> tiles(1);
  const std::vector<expert<const_mx_view<>>> views(1);
  std::vector<std::int32_t> indices(n, 5);
  const dense_view<std::int32_t> chosen{indices.data(), n, 1, 1};
  const dense_view<float> weights{out.data(), n, 1, 1};
  const dense_view<float> to_tokens{y.data(), n, 32, 32};
  moe_workspace workspace;
  CHECK(refuses(dispatch::moe(tiles, w, chosen, weights, to_tokens, workspace)));
  CHECK(refuses(dispatch::moe(views, w, chosen, weights, to_tokens, workspace)));
  CHECK(refuses(dispatch::moe(tiles, q, chosen, weights, to_tokens, workspace)));
  CHECK(refuses(dispatch::moe(views, q, chosen, weights, to_tokens, workspace)));
  CHECK(refuses(dispatch::moe(dialect_id::ggml, views, w, chosen, weights, to_tokens, workspace)));
  const shared_experts<packed_matrix> shared{std::span(tiles)};
  CHECK(refuses(dispatch::moe(views, shared, w, chosen, weights, to_tokens, workspace)));
  CHECK(refuses(dispatch::moe(tiles, shared, q, chosen, weights, to_tokens, workspace)));
  const std::vector<packed_matrix> matrices(1);
  const std::vector<std::int64_t> offsets(2, 0);
  CHECK(refuses(dispatch::grouped_gemm(matrices, offsets, w, to_tokens, workspace)));
  CHECK(refuses(dispatch::grouped_gemm(matrices, offsets, q, to_tokens, workspace)));
  const dense_view<bf16> narrow{wide.data(), n, n, n};
  CHECK(refuses(dispatch::gemm(mx.view(), w, narrow)));
  CHECK(refuses(dispatch::gemm(packed, x8, narrow)));
  CHECK(refuses(dispatch::gemm(packed, q, narrow)));
  CHECK(std::ranges::all_of(wide, [](bf16 v) { return v == bf16{0x4000}; }));
  CHECK(refuses(dispatch::route_topk_sigmoid(w, nullptr, chosen, weights)));

  CHECK(x8.view().at(0, 0) == 0.0f);
  CHECK(std::ranges::all_of(indices, [](std::int32_t v) { return v == 5; }));
  CHECK(mx.is_untouched());
  CHECK(std::ranges::all_of(out, [](float v) { return v == 2.0f; }));
  CHECK(std::ranges::all_of(y, [](float v) { return v == 3.0f; }));
  CHECK(q.code(0, 0) == 0);
}
