// mxfp4/linalg/mxfp8.hpp -- products of MXFP4 weights and MXFP8 activations.
// SPDX-License-Identifier: Apache-2.0
//
// Activations are widened to float, which is exact, and multiplied as in linalg/f32.hpp: the results are those of the
// f32 product of the same numbers, bit for bit.
#pragma once

#include "mxfp4/kernel/mxfp8.hpp"
#include "mxfp4/kernel/pack.hpp"
#include "mxfp4/linalg/f32.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {
inline namespace MXFP4_ISA_NS {

/// Y[m][n] = sum over k of X[m][k] * decode(W)[n][k]: gemm of linalg/f32.hpp for X in MXFP8.
///
/// @param w  N x K weights: a view of any layout, packed_view, or a packed_matrix; K a multiple of 32.
/// @param x  M x K, mxfp8_view or mxfp8_activations. An element is its float decode: exact, subnormals included,
///           infinity where it overflows.
/// @param y  M x N, overwritten, or added to with options.accumulate; must not overlap w, x or the bias.
/// @return   ok, or what is wrong with the arguments; nothing is written then.
/// Accuracy: linalg/f32.hpp's bound over the values of the elements; what quantising X costs comes on top.
/// Special:  a scale byte 255 or an element 0x7F in a token makes its outputs NaN, and no other token's. Under scale
///           bytes below 10 an element may be a subnormal float, which is lost if the caller flushes subnormals to
///           zero.
/// Same bits as the f32 product of the same numbers, with all that it promises.
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, class ByteW, block_layout Layout,
          class Byte>
status gemm(const basic_mx_view<ByteW, Layout>& w, const basic_mxfp8_view<Byte>& x, const dense_view<float>& y,
            const gemm_options& options = {}) {
  return kernel::product_f32<Arch>(simd::static_weight_table<float, Dialect>{}, const_mx_view<Layout>(w), x, y,
                                   options);
}
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, class Byte>
status gemm(const packed_view& w, const basic_mxfp8_view<Byte>& x, const dense_view<float>& y,
            const gemm_options& options = {}) {
  return kernel::product_f32<Arch>(simd::static_weight_table<float, Dialect>{}, w, x, y, options);
}
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, class Byte>
status gemm(const packed_matrix& w, const basic_mxfp8_view<Byte>& x, const dense_view<float>& y,
            const gemm_options& options = {}) {
  return gemm<Dialect, Arch>(w.view(), x, y, options);
}
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, class W>
status gemm(const W& w, const mxfp8_activations& x, const dense_view<float>& y, const gemm_options& options = {}) {
  return gemm<Dialect, Arch>(w, x.view(), y, options);
}

/// y[n] = sum over k of x[k] * decode(W)[n][k] for one token: gemm with M = 1. y: N floats, an array, a vector or a
/// span.
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, class W, number_row Y>
status gemv(const W& w, const mxfp8_activations& x, Y&& y, const gemm_options& options = {}) {
  return gemm<Dialect, Arch>(w, x.view(), detail::one_row(y), options);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
