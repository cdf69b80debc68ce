// mxfp4/linalg/f32.hpp -- matrix products of MXFP4 weights with floating-point activations.
// SPDX-License-Identifier: Apache-2.0
//
//   gemv(w, x, y)   one token                  gemm(w, X, Y)   M tokens; one token is gemv's
//   w: a view of a checkpoint's own bytes, or packed_view
#pragma once

#include <type_traits>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/kernel/f32_gemm.hpp"
#include "mxfp4/kernel/f32_gemv.hpp"
#include "mxfp4/kernel/output.hpp"
#include "mxfp4/tensor/gemm_options.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"
#include "mxfp4/tensor/packed_view.hpp"
#include "mxfp4/tensor/product_check.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {
namespace kernel {
inline namespace MXFP4_ISA_NS {

/// What a product in f32 reads.
[[nodiscard]] inline packed_view f32_weights(const packed_matrix& w) noexcept { return w.view(); }
[[nodiscard]] inline packed_view f32_weights(const packed_view& w) noexcept { return w; }
template <class Byte, block_layout Layout>
[[nodiscard]] const_mx_view<Layout> f32_weights(const basic_mx_view<Byte, Layout>& w) noexcept {
  return w;
}

/// One token by gemv_f32, more by gemm_f32. In a function of its own: linalg/output.hpp calls it for parts of Y.
/// @param table  of the dialect: simd::static_weight_table or simd::weight_table.
template <class Arch, class Table, class W, class X>
MXFP4_NOINLINE void multiply_f32(const Table& table, const W& w, const X& x, const dense_view<float>& y,
                                 bool accumulate, executor_ref executor) {
  if (x.rows == 1) gemv_f32<Arch>(table, w, x, y.data, accumulate, executor);
  else gemm_f32<Arch>(detail::f32_source<Arch>(w, table), x, y, accumulate, executor);
}

/// The body of every product with f32 arithmetic: checks the arguments, then multiplies.
template <class Arch, class Table, class W, class X>
status product_f32(const Table& table, const W& w, const X& x, const dense_view<float>& y,
                   const gemm_options& options) {
  using mxfp4::detail::operand_of;
  if (const status s =
          mxfp4::detail::check_product(operand_of(w, "w"), operand_of(x, "x"), operand_of(y, "y"), options.bias);
      !s.ok())
    return s;
  if (w.rows == 0 || x.rows == 0) return {};
  multiply_f32<Arch>(table, w, x, y, options.accumulate, options.executor);
  if (!options.bias.empty()) add_bias<Arch>(y, options.bias.data(), options.executor);
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace kernel

inline namespace MXFP4_ISA_NS {

/// Y[m][n] = sum over k of X[m][k] * decode(W)[n][k]. A weight is its float decode (infinity where that overflows) as
/// `Dialect` reads it.
///
/// @param w  N x K weights, any layout and row stride; K a multiple of 32.
/// @param x  M x K activations in data units: float, bf16, f16 or e4m3, widened exactly; row stride >= K elements.
/// @param y  M x N, overwritten, or added to with options.accumulate; must not overlap w, x or the bias. bf16 and f16:
///           linalg/output.hpp.
/// @return   ok, or what is wrong with the arguments; nothing is written then.
/// Accuracy: |Y - exact| <= gamma(K) * sum |w*x| + K * 2^-149 while every partial result is finite,
///           gamma(K) = K*u / (1 - K*u), u = 2^-24. With accumulate, Y is one term more: K + 1 for K. A bias is added
///           last, with one rounding.
///           Why: for M > 1 an output is K FMAs in a row, so a term is rounded K times at the most, and a result that
///           is subnormal is off by 2^-150 at the most. For M = 1 see gemv. Without FMA in the ISA, the product of a
///           term is rounded too; the first sum, 0 + w*x, is exact in return.
/// Special:  NaN and infinity in W or X follow IEEE; a block with scale byte 0xFF makes its outputs NaN (dialect ocp).
///           With a bias any NaN in Y is 0x7FC00000.
///           Bytes 0 and 1 give subnormal weights, which a flush-to-zero mode of the caller's loses.
/// Same bits for any number of tasks; same bits per ISA. For M > 1 also for any M, any layout, a view or packed, and on
/// every ISA that has FMA: all but sse2, and plain C++ on a processor without it (simd::fuses).
/// Stack:    134 KiB of the caller's, 55 KiB of an executor's thread; AVX2: 270 and 40. Nothing is allocated here.
/// Source:   OCP MX v1.0, dot product of MX vectors.
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, class Byte, block_layout Layout,
          class T>
status gemm(const basic_mx_view<Byte, Layout>& w, const dense_view<T>& x, const dense_view<float>& y,
            const gemm_options& options = {}) {
  static_assert(element_type<std::remove_const_t<T>>);
  return kernel::product_f32<Arch>(simd::static_weight_table<float, Dialect>{}, const_mx_view<Layout>(w),
                                   dense_view<const T>(x), y, options);
}

/// The same for packed weights. The kernels ask no alignment of them; 64 bytes is what is fast.
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, class T>
status gemm(const packed_view& w, const dense_view<T>& x, const dense_view<float>& y,
            const gemm_options& options = {}) {
  static_assert(element_type<std::remove_const_t<T>>);
  return kernel::product_f32<Arch>(simd::static_weight_table<float, Dialect>{}, w, dense_view<const T>(x), y, options);
}

/// y[n] = sum over k of x[k] * decode(W)[n][k]: gemm for one token, 1 x K and 1 x N.
///
/// Accuracy: gemm's bound. A row of a view: 2 * lanes sums of FMAs side by side, added in a tree; a term is rounded
///           fewer than K times. Packed weights: 2v * x is summed over a block in four chains of eight; the chains are
///           added, and the sum is multiplied by half the scale. 2v is an integer, so no product falls below the last
///           place of x and nothing is lost that the scale could enlarge: 8 + 2 roundings in a block, one a block after
///           it. Blocks with bytes below 2 or above 252, and all blocks when some |x| >= 2^118, infinity or NaN among
///           them, are decoded first and summed as gemm does.
/// The rest is gemm's.
/// @param x  K numbers: an array, a vector, a span; float, bf16, f16 or e4m3.  @param y  N floats, likewise.
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, class Byte, block_layout Layout,
          number_row X, number_row Y>
status gemv(const basic_mx_view<Byte, Layout>& w, const X& x, Y&& y, const gemm_options& options = {}) {
  return gemm<Dialect, Arch>(w, detail::one_row(x), detail::one_row(y), options);
}
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, number_row X, number_row Y>
status gemv(const packed_view& w, const X& x, Y&& y, const gemm_options& options = {}) {
  return gemm<Dialect, Arch>(w, detail::one_row(x), detail::one_row(y), options);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
