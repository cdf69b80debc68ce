// tests/header_only.cpp -- the public page used as a consumer uses it; header_only.symbol_gate reads the object.
// SPDX-License-Identifier: Apache-2.0
//
// Compiled for the newest instruction set of each family, with and without optimisation and with all warnings, since
// these headers are part of their caller's build; never run.
#include <span>
#include <vector>

#include "mxfp4/mxfp4.hpp"

using namespace mxfp4;

namespace {

struct numbers {
  std::vector<float> w, out;
  std::vector<std::uint8_t> codes, scales;
};

int formats(numbers& n) {
  const auto bytes = make_view(std::span(n.codes), std::span(n.scales), 64, 64);
  const auto w = make_dense_view(std::span(n.w), 64, 64), out = make_dense_view(std::span(n.out), 64, 64);
  int failed = 0;
  const auto count = [&failed](const status& s) { failed += s.ok() ? 0 : 1 + static_cast<int>(message(s).view()[0]); };
  count(quantize<recipe::ocp>(*w, *bytes));
  count(quantize(recipe_id::ggml, *w, *bytes, {.nonfinite = on_nonfinite::refuse}));
  count(reference::quantize(*w, *bytes));
  count(dequantize(*bytes, *out));
  count(dequantize(dialect_id::ggml, *bytes, *out));
  error_statistics lost;
  count(measure_error(*w, *bytes, lost));
  const e4m3 narrow[64 * 64]{};
  const float factor[1]{};
  bf16 wide[64 * 64];
  const dense_view<const e4m3> fp8{narrow, 64, 64, 64};
  const dense_view<const float> factors{factor, 1, 1, 1};
  count(quantize_fp8(fp8, factors, *bytes));
  count(quantize_fp8_measured(recipe_id::ocp, fp8, factors, *bytes, lost));
  count(widen_fp8(fp8, factors, dense_view<bf16>{wide, 64, 64, 64}));
  f16 half[64 * 64];
  const dense_view<f16> halves{half, 64, 64, 64};
  count(dequantize(*bytes, halves));
  count(quantize(dense_view<const f16>{half, 64, 64, 64}, *bytes));
  count(quantize(dense_view<const bf16>{wide, 64, 64, 64}, *bytes));
  count(quantize_fp8_measured(fp8, factors, *bytes, lost, {.nonfinite = on_nonfinite::refuse}));
  count(
      convert(*bytes, mx_view<layout::gpt_oss>{n.codes.data(), n.scales.data(), 64, 64, 32, 2}, {.executor = serial}));
  count(encode_row(n.w.data(), 33, n.codes.data(), n.scales.data()));
  count(encode_row(recipe_id::mlx, n.w.data(), 33, n.codes.data(), n.scales.data()));
  const float x[block_size]{};
  const block b = encode_block(x);
  recipe_id found{};
  return failed + static_cast<int>(decode_block(b)[0] + lost.relative_error()) +
         (find_recipe(recipe_name(recipe_id::mlx), found) ? 1 : 0);
}

int products(numbers& n) {
  const auto bytes = make_view(std::span(n.codes), std::span(n.scales), 64, 64);
  const auto w = make_dense_view(std::span(n.w), 64, 64), y = make_dense_view(std::span(n.out), 64, 64);
  int failed = 0;
  const auto count = [&failed](const status& s) { failed += s.ok() ? 0 : 1; };
  auto x8 = quantize_activations(*w, int8_scaling::e8m0);
  auto xf = quantize_activations(*w, mxfp8_scaling::floor);
  auto packed = pack(*bytes);
  count(gemm(*packed, *x8, *y));
  count(gemm(*bytes, *x8, *y));
  count(gemm(*packed, *w, *y));
  count(gemm(*bytes, *w, *y));
  count(gemm(*packed, *xf, *y));
  count(gemm(dialect_id::ggml, *bytes, *w, *y));
  count(gemm(dialect_id::inf_at_255, *packed, *xf, *y));
  count(gemv(dialect_id::ggml, *packed, std::span(n.w).first(64), std::span(n.out).first(64)));
  count(gemv(*packed, std::span(n.w).first(64), std::span(n.out).first(64)));
  bf16 wide[64 * 64];
  const dense_view<bf16> y16{wide, 64, 64, 64};
  count(gemm(*bytes, *w, y16, {.bias = std::span(n.w).first(64)}));
  count(gemm(*packed, *x8, y16));
  count(gemm(dialect_id::ggml, *packed, *xf, y16));
  count(unpack(*packed, *bytes));
  auto loaded = packed_matrix::from_bytes(64, 64, packed->bytes());
  double exact[64];
  count(reference::gemv(*bytes, std::span(n.w).first(64), exact));
  count(reference::gemm(*bytes, *x8, *y));
  const std::int32_t choice[64 * 2]{};
  const float weight[64 * 2]{};
  std::int32_t chosen[64 * 2];
  float weights[64 * 2];
  count(route_topk_sigmoid(*w, nullptr, dense_view<std::int32_t>{chosen, 64, 2, 2},
                           dense_view<float>{weights, 64, 2, 2}));
  const expert<const_mx_view<>> views[1]{{*bytes, *bytes, *bytes}};
  auto memory = moe_workspace::create({64, 2, 1, 64, 64});
  moe_workspace workspace = *std::move(memory);
  const dense_view<const std::int32_t> indices{choice, 64, 2, 2};
  const dense_view<const float> shares{weight, 64, 2, 2};
  count(moe(views, dense_view<const float>(*w), indices, shares, *y, workspace));
  count(moe(views, *x8, indices, shares, *y, workspace));
  count(moe(dialect_id::ggml, views, dense_view<const float>(*w), indices, shares, *y, workspace));
  const shared_experts<const_mx_view<>> shared{views};
  count(moe(views, shared, dense_view<const float>(*w), indices, shares, *y, workspace));
  count(moe(views, shared, *x8, indices, shares, *y, workspace));
  const const_mx_view<> matrices[1]{*bytes};
  const std::int64_t offsets[2]{0, 64};
  count(grouped_gemm(matrices, offsets, dense_view<const float>(*w), y16, workspace));
  count(grouped_gemm(matrices, offsets, *x8, *y, workspace));
  return failed + (loaded ? 0 : 1);
}

/// What no function of the public page calls yet: every conversion of a vector.
void conversions(numbers& n) {
  using arch = xsimd::default_arch;
  bf16 wide[simd::floats<arch>::size];
  f16 half[simd::floats<arch>::size];
  simd::store_narrowed<arch>(simd::load_widened<arch>(n.w.data()), wide);
  simd::store_narrowed<arch>(simd::load_widened<arch>(wide), half);
  simd::store_narrowed<arch>(simd::load_widened<arch>(half), n.out.data());
}

}  // namespace

int all_of_it(int size);
int all_of_it(int size) {
  numbers n;
  n.w.resize(static_cast<std::size_t>(size));
  n.out.resize(n.w.size());
  conversions(n);
  return formats(n) + products(n);
}
