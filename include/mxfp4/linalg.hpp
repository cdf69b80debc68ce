// mxfp4/linalg.hpp -- matrix products with MXFP4 weights: the public page.
// SPDX-License-Identifier: Apache-2.0
//
// Multiplies with the weights as they are, for one token or many, with the kernels of what the translation unit is
// compiled for; dispatch.hpp picks them at run time. Pack weights once where they are used often. Nothing is allocated
// by gemm and gemv, and the result does not depend on the executor.
//
// Example:
//
//   const std::int64_t rows = 64, cols = 256;  // W is N x K
//   std::vector<std::uint8_t> codes(rows * cols / 2, 0x22), scales(rows * cols / 32, 120);
//   std::vector<float> x(cols, 1.0f), y(rows);
//   const auto w = mxfp4::make_view(codes, scales, rows, cols).value_or_abort();
//   mxfp4::status s = mxfp4::gemv(w, x, y);               // from a checkpoint's own bytes
//   const auto packed = mxfp4::pack(w).value_or_abort();  // once: faster
//   if (s.ok()) s = mxfp4::gemv(packed, x, y, {.accumulate = true});
//
// Shapes and operands:
//
//   Y[m][n] = sum over k of X[m][k] * W[n][k]        W is N x K, X is M x K, Y is M x N
//
//   weights          a view of a checkpoint's own bytes, or packed_matrix: pack() once, faster
//   activations      dense_view of float, bf16, f16, e4m3    f32 arithmetic       linalg/f32.hpp
//                    int8_activations                        int8 dot products    linalg/int8.hpp
//                    mxfp8_activations, mxfp8_view           f32 arithmetic       linalg/mxfp8.hpp
//
// quantize_activations() makes int8_activations and mxfp8_activations.
//
// Y is float, bf16 or f16 (linalg/output.hpp): the sums are f32, and are rounded once.
//
// Every pair has gemm() and, for one token, gemv(); options: accumulate, bias, executor. Those in f32 take a dialect,
// as a template argument, gemm<dialect::ggml>(w, x, y), or by its id in front, gemm(dialect_id::ggml, w, x, y).
#pragma once

#include <concepts>

#include "mxfp4/format/dialect.hpp"
#include "mxfp4/linalg/f32.hpp"
#include "mxfp4/linalg/int8.hpp"
#include "mxfp4/linalg/mxfp8.hpp"
#include "mxfp4/linalg/output.hpp"
#include "mxfp4/tensor/activation.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {
inline namespace MXFP4_ISA_NS {

/// gemm of linalg/f32.hpp for a packed matrix.
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, class T>
status gemm(const packed_matrix& w, const dense_view<T>& x, const dense_view<float>& y,
            const gemm_options& options = {}) {
  return gemm<Dialect, Arch>(w.view(), x, y, options);
}

/// gemv of linalg/f32.hpp for a packed matrix: x has w.cols() elements, y has w.rows().
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, number_row X, number_row Y>
status gemv(const packed_matrix& w, const X& x, Y&& y, const gemm_options& options = {}) {
  return gemm<Dialect, Arch>(w.view(), detail::one_row(x), detail::one_row(y), options);
}

/// gemm and gemv in f32 with the dialect chosen at run time; errc::unknown_dialect besides.
template <class Arch = simd::native_arch, class W, class X>
status gemm(dialect_id dialect, const W& w, const X& x, const dense_view<float>& y, const gemm_options& options = {}) {
  static_assert(!std::same_as<X, int8_activations>,
                "a product with int8 activations reads scale byte 255 as NaN (dialect ocp): it takes no dialect");
  if constexpr (!std::same_as<X, int8_activations>)
    return detail::with_dialect(dialect, [&]<class D>() { return mxfp4::gemm<D, Arch>(w, x, y, options); });
}
/// The same with outputs in bf16 or f16.
template <class Arch = simd::native_arch, class W, class X, rounded_element T>
  requires(!std::same_as<X, int8_activations>)
status gemm(dialect_id dialect, const W& w, const X& x, const dense_view<T>& y, const gemm_options& options = {}) {
  return detail::with_dialect(dialect, [&]<class D>() { return mxfp4::gemm<D, Arch>(w, x, y, options); });
}
/// The same for one token.
template <class Arch = simd::native_arch, class W, class X, number_row Y>
status gemv(dialect_id dialect, const W& w, const X& x, Y&& y, const gemm_options& options = {}) {
  if constexpr (number_row<X>) return mxfp4::gemm<Arch>(dialect, w, detail::one_row(x), detail::one_row(y), options);
  else return mxfp4::gemm<Arch>(dialect, w, x, detail::one_row(y), options);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
