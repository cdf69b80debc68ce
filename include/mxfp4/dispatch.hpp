// mxfp4/dispatch.hpp -- the kernels of every instruction set, one of them picked at run time.
// SPDX-License-Identifier: Apache-2.0
//
// For a program that is built once and runs on any CPU: link mxfp4::dispatch, a static library; no compiler flag, no
// xsimd. The signatures are those of quantize.hpp, linalg.hpp, moe.hpp and router.hpp.
//
// Example:
//
//   const std::int64_t rows = 64, cols = 256;
//   std::vector<std::uint8_t> codes(rows * cols / 2, 0x22), scales(rows * cols / 32, 120);
//   std::vector<float> x(cols, 1.0f), y(rows);
//   const auto w = mxfp4::make_view(codes, scales, rows, cols).value_or_abort();
//   mxfp4::status s = mxfp4::dispatch::gemv(w, x, y);
//   std::printf("%s: y[0] = %g\n", mxfp4::dispatch::isa().value_or_abort(), y[0]);
//
// The instruction sets:
//
//   x86-64     sse2  avx2  avxvnni  avx512bw  avx512vnni  avx512bf16   the last that the CPU has is taken, or the one
//   aarch64    neon  neon_dotprod  neon_i8mm                           that MXFP4_ISA in the environment names
//
// Where MXFP4_ISA names none that the CPU and the library have, every function that calculates returns
// errc::isa_unavailable and leaves all as it was. A recipe or dialect is one of the named ones, as a template argument
// or by its id. The results are the header-only functions' for that instruction set, bit for bit; their docstrings
// hold. The library is built for float, bf16, f16 and e4m3, for codes and scales apart (compressed_tensors, gpt_oss,
// mlx) and for ggml's blocks; convert() makes the others.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "mxfp4/dispatch/boundary.hpp"
#include "mxfp4/format/dialect.hpp"
#include "mxfp4/format/recipe_id.hpp"
#include "mxfp4/moe/expert.hpp"
#include "mxfp4/moe/router.hpp"
#include "mxfp4/moe/workspace.hpp"
#include "mxfp4/reference/error_statistics.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/call_options.hpp"
#include "mxfp4/tensor/convert.hpp"
#include "mxfp4/tensor/encode_row.hpp"
#include "mxfp4/tensor/gemm_options.hpp"
#include "mxfp4/tensor/moe_options.hpp"
#include "mxfp4/tensor/mxfp8_activations.hpp"
#include "mxfp4/tensor/output_view.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::dispatch {

/// The instruction set in use, "avx512vnni" and so on, or errc::isa_unavailable. MXFP4_ISA is read by the first call of
/// any function here and never again; empty counts as not set.
[[nodiscard]] result<const char*> isa() noexcept;

/// What this CPU has and the library was built with, best first. Never empty.
[[nodiscard]] std::span<const char* const> available_isas() noexcept;

// ---- numbers <-> MXFP4 ----------------------------------------------------------------------------------------------

/// W -> MXFP4 by the recipe `recipe`: mxfp4::quantize (kernel/quantize.hpp). errc::unknown_recipe besides.
template <class T, built_layout Layout>
MXFP4_INLINE status quantize(recipe_id recipe, const dense_view<T>& w, const mx_view<Layout>& out,
                             const quantize_options& options = {}) {
  return detail::quantize(recipe, dense_view<const std::remove_const_t<T>>(w), detail::output(out), options);
}
template <block_recipe Recipe = recipe::ocp, class T, built_layout Layout>
MXFP4_INLINE status quantize(const dense_view<T>& w, const mx_view<Layout>& out, const quantize_options& options = {}) {
  return dispatch::quantize(recipe_id_of<Recipe>, w, out, options);
}

/// FP8 with a scale for each 128 x 128 weights -> MXFP4: mxfp4::quantize_fp8 (kernel/quantize_fp8.hpp). Codes and
/// scales apart; convert() makes ggml's blocks of them.
template <built_layout Layout>
MXFP4_INLINE status quantize_fp8(recipe_id recipe, const dense_view<const e4m3>& w,
                                 const dense_view<const float>& scales, const mx_view<Layout>& out,
                                 const quantize_options& options = {}) {
  static_assert(!Layout::interleaved, "write codes and scales apart, then convert() them to ggml's blocks");
  return detail::quantize_fp8(recipe, w, scales, detail::output(out).bytes, options);
}
template <block_recipe Recipe = recipe::ocp, built_layout Layout>
MXFP4_INLINE status quantize_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                                 const mx_view<Layout>& out, const quantize_options& options = {}) {
  return dispatch::quantize_fp8(recipe_id_of<Recipe>, w, scales, out, options);
}

/// The same FP8 -> bf16: mxfp4::widen_fp8 (kernel/quantize_fp8.hpp).
MXFP4_INLINE status widen_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                              const dense_view<bf16>& out, const run_options& options = {}) {
  return detail::widen_fp8(w, scales, out, options);
}

/// Adds to `sum` what `q` lost of float, bf16 or f16 weights: mxfp4::measure_error (kernel/measure_error.hpp).
template <class T, class Byte, built_layout Layout>
MXFP4_INLINE status measure_error(const dense_view<T>& w, const basic_mx_view<Byte, Layout>& q, error_statistics& sum,
                                  const run_options& options = {}) {
  static_assert(!Layout::interleaved && !std::same_as<std::remove_const_t<T>, e4m3>);
  return detail::measure_error(detail::input(w), detail::weights(q).bytes, sum, options);
}

/// FP8 -> MXFP4, and what it lost added to `sum`, in one pass: mxfp4::quantize_fp8_measured
/// (kernel/quantize_measured.hpp).
template <built_layout Layout>
MXFP4_INLINE status quantize_fp8_measured(recipe_id recipe, const dense_view<const e4m3>& w,
                                          const dense_view<const float>& scales, const mx_view<Layout>& out,
                                          error_statistics& sum, const quantize_options& options = {}) {
  static_assert(!Layout::interleaved, "write codes and scales apart, then convert() them to ggml's blocks");
  return detail::quantize_fp8_measured(recipe, w, scales, detail::output(out).bytes, sum, options);
}
template <block_recipe Recipe = recipe::ocp, built_layout Layout>
MXFP4_INLINE status quantize_fp8_measured(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                                          const mx_view<Layout>& out, error_statistics& sum,
                                          const quantize_options& options = {}) {
  return dispatch::quantize_fp8_measured(recipe_id_of<Recipe>, w, scales, out, sum, options);
}

/// MXFP4 -> float, bf16 or f16: mxfp4::dequantize (kernel/dequantize.hpp). errc::unknown_dialect besides.
template <class Byte, built_layout Layout, element_type T>
MXFP4_INLINE status dequantize(dialect_id dialect, const basic_mx_view<Byte, Layout>& w, const dense_view<T>& out,
                               const run_options& options = {}) {
  static_assert(!std::same_as<T, e4m3>, "an MXFP4 weight does not fit e4m3 in general: decode to f32, bf16 or f16");
  return detail::dequantize(detail::weights(w), {out.data, out.rows, out.cols, out.stride, detail::element_of<T>},
                            dialect, options);
}
template <decode_dialect Dialect = dialect::ocp, class Byte, built_layout Layout, element_type T>
MXFP4_INLINE status dequantize(const basic_mx_view<Byte, Layout>& w, const dense_view<T>& out,
                               const run_options& options = {}) {
  return dispatch::dequantize(dialect_id_of<Dialect>, w, out, options);
}

/// A row of any length -> blocks, and from one layout to another: the header's own functions (tensor/encode_row.hpp,
/// convert.hpp). They are plain loops, the same for every instruction set, and work where none is to be had.
using mxfp4::convert, mxfp4::encode_row;

// ---- what products read ---------------------------------------------------------------------------------------------

/// Weights -> tile16x32_v1, the same bytes on every machine: mxfp4::pack (kernel/pack.hpp).
template <class Byte, built_layout Layout>
[[nodiscard]] MXFP4_INLINE result<packed_matrix> pack(const basic_mx_view<Byte, Layout>& w,
                                                      const run_options& options = {}) {
  return detail::pack(detail::weights(w), options);
}

/// Some rows of a matrix that is not in memory as a whole: mxfp4::pack_rows (kernel/pack.hpp).
template <class Byte, built_layout Layout>
MXFP4_INLINE status pack_rows(const basic_mx_view<Byte, Layout>& w, std::int64_t first, packed_matrix& packed,
                              const run_options& options = {}) {
  return detail::pack_rows(detail::weights(w), first, packed, options);
}

/// The inverse, a plain loop too: the function of tensor/packed_matrix.hpp.
using mxfp4::unpack;

/// Float, bf16 or f16 activations -> int8, in the scaling of `out`: mxfp4::quantize_activations
/// (kernel/activation.hpp).
template <class T>
MXFP4_INLINE status quantize_activations(const dense_view<T>& x, int8_activations& out,
                                         const run_options& options = {}) {
  static_assert(!std::same_as<std::remove_const_t<T>, e4m3>);
  return detail::quantize_activations(detail::input(x), out, options);
}
/// The same into memory of its own.
template <class T>
[[nodiscard]] MXFP4_INLINE result<int8_activations> quantize_activations(const dense_view<T>& x, int8_scaling scaling,
                                                                         const run_options& options = {}) {
  if (const status s = check(x, "x"); !s.ok()) return s;
  result<int8_activations> made = int8_activations::create(x.rows, x.cols, scaling);
  if (!made) return made;
  int8_activations out = *std::move(made);
  if (const status s = dispatch::quantize_activations(x, out, options); !s.ok()) return s;
  return result<int8_activations>(std::move(out));
}

/// Float, bf16 or f16 activations -> MXFP8: mxfp4::quantize_activations (kernel/mxfp8.hpp).
template <class T>
MXFP4_INLINE status quantize_activations(const dense_view<T>& x, const mxfp8_view& out,
                                         mxfp8_scaling scaling = mxfp8_scaling::floor,
                                         const run_options& options = {}) {
  static_assert(!std::same_as<std::remove_const_t<T>, e4m3>);
  return detail::quantize_activations(detail::input(x), out, scaling, options);
}
/// The same into memory of its own.
template <class T>
[[nodiscard]] MXFP4_INLINE result<mxfp8_activations> quantize_activations(const dense_view<T>& x, mxfp8_scaling scaling,
                                                                          const run_options& options = {}) {
  if (const auto name = isa(); !name) return name.error();
  if (const status s = check(x, "x"); !s.ok()) return s;
  result<mxfp8_activations> made = mxfp8_activations::create(x.rows, x.cols);
  if (!made) return made;
  mxfp8_activations out = *std::move(made);
  if (const status s = dispatch::quantize_activations(x, out.view(), scaling, options); !s.ok()) return s;
  return result<mxfp8_activations>(std::move(out));
}

// ---- products -------------------------------------------------------------------------------------------------------

/// Y = X W^T, or Y += X W^T, in f32: gemm of linalg/f32.hpp and linalg/mxfp8.hpp. errc::unknown_dialect besides.
/// @param w  a view, packed_view or packed_matrix.
/// @param x  float, bf16, f16, e4m3, or MXFP8: a view or mxfp8_activations.
template <class W, class X>
  requires detail::f32_operands<W, X>
MXFP4_INLINE status gemm(dialect_id dialect, const W& w, const X& x, const dense_view<float>& y,
                         const gemm_options& options = {}) {
  return detail::gemm(dialect, detail::f32_weights(w), detail::f32_input(x), y, options);
}
template <decode_dialect Dialect = dialect::ocp, class W, class X>
  requires detail::f32_operands<W, X>
MXFP4_INLINE status gemm(const W& w, const X& x, const dense_view<float>& y, const gemm_options& options = {}) {
  return dispatch::gemm(dialect_id_of<Dialect>, w, x, y, options);
}

/// The same with int8 activations, W4A8: gemm of linalg/int8.hpp, dialect ocp.
template <class Byte, built_layout Layout>
MXFP4_INLINE status gemm(const basic_mx_view<Byte, Layout>& w, const int8_activations& x, const dense_view<float>& y,
                         const gemm_options& options = {}) {
  return detail::gemm(detail::weights(w), x, y, options);
}
status gemm(const packed_matrix& w, const int8_activations& x, const dense_view<float>& y,
            const gemm_options& options = {});

/// Both with outputs in bf16 or f16: gemm of linalg/output.hpp.
template <class W, class X, rounded_element T>
  requires detail::f32_operands<W, X>
MXFP4_INLINE status gemm(dialect_id dialect, const W& w, const X& x, const dense_view<T>& y,
                         const gemm_options& options = {}) {
  return detail::gemm(dialect, detail::f32_weights(w), detail::f32_input(x), detail::output_view(y), options);
}
template <decode_dialect Dialect = dialect::ocp, class W, class X, rounded_element T>
  requires detail::f32_operands<W, X>
MXFP4_INLINE status gemm(const W& w, const X& x, const dense_view<T>& y, const gemm_options& options = {}) {
  return dispatch::gemm(dialect_id_of<Dialect>, w, x, y, options);
}
template <class Byte, built_layout Layout, rounded_element T>
MXFP4_INLINE status gemm(const basic_mx_view<Byte, Layout>& w, const int8_activations& x, const dense_view<T>& y,
                         const gemm_options& options = {}) {
  return detail::gemm(detail::weights(w), x, detail::output_view(y), options);
}
template <rounded_element T>
MXFP4_INLINE status gemm(const packed_matrix& w, const int8_activations& x, const dense_view<T>& y,
                         const gemm_options& options = {}) {
  return detail::gemm(w, x, detail::output_view(y), options);
}

/// One token: gemm with M = 1. x: K numbers, y: N of float, bf16 or f16, each an array, a vector or a span; or x is
/// quantised.
template <class W, number_row X, number_row Y>
MXFP4_INLINE status gemv(dialect_id dialect, const W& w, const X& x, Y&& y, const gemm_options& options = {}) {
  return dispatch::gemm(dialect, w, mxfp4::detail::one_row(x), mxfp4::detail::one_row(y), options);
}
template <class W, number_row Y>
MXFP4_INLINE status gemv(dialect_id dialect, const W& w, const mxfp8_activations& x, Y&& y,
                         const gemm_options& options = {}) {
  return dispatch::gemm(dialect, w, x, mxfp4::detail::one_row(y), options);
}
template <decode_dialect Dialect = dialect::ocp, class W, number_row X, number_row Y>
MXFP4_INLINE status gemv(const W& w, const X& x, Y&& y, const gemm_options& options = {}) {
  return dispatch::gemv(dialect_id_of<Dialect>, w, x, y, options);
}
template <decode_dialect Dialect = dialect::ocp, class W, number_row Y>
MXFP4_INLINE status gemv(const W& w, const mxfp8_activations& x, Y&& y, const gemm_options& options = {}) {
  return dispatch::gemv(dialect_id_of<Dialect>, w, x, y, options);
}
template <class W, number_row Y>
MXFP4_INLINE status gemv(const W& w, const int8_activations& x, Y&& y, const gemm_options& options = {}) {
  return dispatch::gemm(w, x, mxfp4::detail::one_row(y), options);
}

// ---- experts --------------------------------------------------------------------------------------------------------

/// A mixture of experts: moe of moe.hpp. errc::unknown_dialect besides.
///
/// @param experts  expert<packed_matrix>s, or expert<view>s whose codes and scales are apart: pack() ggml's blocks.
/// @param x        activations of float, bf16, f16 or e4m3.
template <expert_list R, class T>
MXFP4_INLINE status moe(dialect_id dialect, const R& experts, const dense_view<T>& x,
                        const dense_view<const std::int32_t>& indices, const dense_view<const float>& weights,
                        const dense_view<float>& y, moe_workspace& workspace, const moe_options& options = {}) {
  return detail::moe(detail::experts(experts), detail::input(x), {indices, weights, y, workspace, options, dialect});
}
template <decode_dialect Dialect = dialect::ocp, expert_list R, class T>
MXFP4_INLINE status moe(const R& experts, const dense_view<T>& x, const dense_view<const std::int32_t>& indices,
                        const dense_view<const float>& weights, const dense_view<float>& y, moe_workspace& workspace,
                        const moe_options& options = {}) {
  return dispatch::moe(dialect_id_of<Dialect>, experts, x, indices, weights, y, workspace, options);
}
/// The same with int8 activations, dialect ocp.
template <expert_list R>
MXFP4_INLINE status moe(const R& experts, const int8_activations& x, const dense_view<const std::int32_t>& indices,
                        const dense_view<const float>& weights, const dense_view<float>& y, moe_workspace& workspace,
                        const moe_options& options = {}) {
  return detail::moe(detail::experts(experts), x, {indices, weights, y, workspace, options});
}

/// The same with experts that every token passes too.
template <expert_list R, class W, class T>
MXFP4_INLINE status moe(dialect_id dialect, const R& experts, const shared_experts<W>& shared, const dense_view<T>& x,
                        const dense_view<const std::int32_t>& indices, const dense_view<const float>& weights,
                        const dense_view<float>& y, moe_workspace& workspace, const moe_options& options = {}) {
  return detail::moe(detail::experts(experts), detail::shared_of(shared), detail::input(x),
                     {indices, weights, y, workspace, options, dialect});
}
template <decode_dialect Dialect = dialect::ocp, expert_list R, class W, class T>
MXFP4_INLINE status moe(const R& experts, const shared_experts<W>& shared, const dense_view<T>& x,
                        const dense_view<const std::int32_t>& indices, const dense_view<const float>& weights,
                        const dense_view<float>& y, moe_workspace& workspace, const moe_options& options = {}) {
  return dispatch::moe(dialect_id_of<Dialect>, experts, shared, x, indices, weights, y, workspace, options);
}
template <expert_list R, class W>
MXFP4_INLINE status moe(const R& experts, const shared_experts<W>& shared, const int8_activations& x,
                        const dense_view<const std::int32_t>& indices, const dense_view<const float>& weights,
                        const dense_view<float>& y, moe_workspace& workspace, const moe_options& options = {}) {
  return detail::moe(detail::experts(experts), detail::shared_of(shared), x, {indices, weights, y, workspace, options});
}

/// One product for each expert, of tokens sorted by expert: grouped_gemm of moe.hpp. errc::unknown_dialect besides.
///
/// @param weights  packed_matrix, or views whose codes and scales are apart.
template <weight_list R, class T, output_element Y>
MXFP4_INLINE status grouped_gemm(dialect_id dialect, const R& weights, std::span<const std::int64_t> offsets,
                                 const dense_view<T>& x, const dense_view<Y>& y, moe_workspace& workspace,
                                 const grouped_gemm_options& options = {}) {
  return detail::grouped_gemm(detail::matrices(weights), detail::input(x),
                              {offsets, detail::output_view(y), workspace, options, dialect});
}
template <decode_dialect Dialect = dialect::ocp, weight_list R, class T, output_element Y>
MXFP4_INLINE status grouped_gemm(const R& weights, std::span<const std::int64_t> offsets, const dense_view<T>& x,
                                 const dense_view<Y>& y, moe_workspace& workspace,
                                 const grouped_gemm_options& options = {}) {
  return dispatch::grouped_gemm(dialect_id_of<Dialect>, weights, offsets, x, y, workspace, options);
}
template <weight_list R, output_element Y>
MXFP4_INLINE status grouped_gemm(const R& weights, std::span<const std::int64_t> offsets, const int8_activations& x,
                                 const dense_view<Y>& y, moe_workspace& workspace,
                                 const grouped_gemm_options& options = {}) {
  return detail::grouped_gemm(detail::matrices(weights), x, {offsets, detail::output_view(y), workspace, options});
}

/// Which experts a token goes to: route_topk of router.hpp, the same bits on every instruction set.
status route_topk(const dense_view<const float>& logits, const float* bias, const dense_view<std::int32_t>& indices,
                  const dense_view<float>& weights, const route_options& options = {});
/// The same by sigmoid, whatever options.scoring says.
status route_topk_sigmoid(const dense_view<const float>& logits, const float* bias,
                          const dense_view<std::int32_t>& indices, const dense_view<float>& weights,
                          const route_options& options = {});

}  // namespace mxfp4::dispatch
