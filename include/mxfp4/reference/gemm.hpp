// mxfp4/reference/gemm.hpp -- matrix products in double, as plain loops: what the kernels are tested against.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "mxfp4/core/float_types.hpp"
#include "mxfp4/format/dialect.hpp"
#include "mxfp4/tensor/product_check.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::reference {
inline namespace MXFP4_ISA_NS {

/// Y[m][n] = sum over k of X[m][k] * decode(W)[n][k], in double, k ascending. A weight is its float decode (infinity
/// where that overflows) as `Dialect` reads it.
///
/// @param w  N x K weights in any layout.
/// @param x  M x K activations in data units: float, bf16, f16 or e4m3, widened exactly.
/// @param y  M x N, overwritten; must not overlap w or x.
/// Accuracy: each product is exact (24 + 24 bits), so |Y - exact| <= gamma(K) * sum |w*x| with
///           gamma(K) = K*u / (1 - K*u), u = 2^-53, while every partial sum is finite.
/// Special:  NaN and infinity in W or X follow IEEE; a block with scale byte 0xFF makes its outputs NaN (dialect ocp).
/// Source:   OCP MX v1.0, dot product of MX vectors.
template <decode_dialect Dialect = dialect::ocp, class Byte, block_layout Layout, class T>
status gemm(const basic_mx_view<Byte, Layout>& w, const dense_view<T>& x, const dense_view<double>& y) noexcept {
  static_assert(element_type<std::remove_const_t<T>>);
  using mxfp4::detail::operand_of;
  if (const status s = mxfp4::detail::check_product(operand_of(w, "w"), operand_of(x, "x"), operand_of(y, "y"));
      !s.ok())
    return s;
  if (y.rows == 0 || y.cols == 0) return {};
  for (std::int64_t m = 0; m < x.rows; ++m)
    for (std::int64_t n = 0; n < w.rows; ++n) {
      double sum = 0.0;
      for (std::int64_t b = 0; b < w.blocks(); ++b) {
        const std::uint8_t* codes = w.block_codes(n, b);
        const auto scale = static_cast<e8m0>(*w.block_scale(n, b));
        for (int i = 0; i < block_size; ++i) {
          const double weight = decode_weight<float, Dialect>(get_code<typename Layout::order>(codes, i), scale);
          sum += weight * static_cast<double>(decode(x.row(m)[b * block_size + i]));
        }
      }
      y.row(m)[n] = sum;
    }
  return {};
}

/// y[n] = sum over k of x[k] * decode(W)[n][k]: gemm for one token. x has w.cols, y has w.rows elements.
template <decode_dialect Dialect = dialect::ocp, class Byte, block_layout Layout, number_row X, number_row Y>
status gemv(const basic_mx_view<Byte, Layout>& w, const X& x, Y&& y) noexcept {
  return reference::gemm<Dialect>(w, mxfp4::detail::one_row(x), mxfp4::detail::one_row(y));
}

/// The same with the dialect chosen at run time; errc::unknown_dialect besides.
template <class Byte, block_layout Layout, class T>
status gemm(dialect_id dialect, const basic_mx_view<Byte, Layout>& w, const dense_view<T>& x,
            const dense_view<double>& y) noexcept {
  return mxfp4::detail::with_dialect(dialect, [&]<class D>() { return reference::gemm<D>(w, x, y); });
}
/// The same for one token.
template <class Byte, block_layout Layout, number_row X, number_row Y>
status gemv(dialect_id dialect, const basic_mx_view<Byte, Layout>& w, const X& x, Y&& y) noexcept {
  return mxfp4::detail::with_dialect(dialect, [&]<class D>() { return reference::gemv<D>(w, x, y); });
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::reference
