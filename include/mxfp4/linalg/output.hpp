// mxfp4/linalg/output.hpp -- products whose outputs are bf16 or f16.
// SPDX-License-Identifier: Apache-2.0
//
// The sums are those of the product with float outputs, bit for bit; each is rounded once. int8 products have all of a
// sum when they store it. Those in f32 add it up in several passes over K, between which a part of Y is kept in floats:
//
//   up to 8 tokens     16384 sums on the caller's stack; the tasks are those of gemv and gemm
//   more               64 tokens x 256 rows of W on the stack of a task, which is a product of its own
//
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "mxfp4/kernel/output.hpp"
#include "mxfp4/linalg/f32.hpp"
#include "mxfp4/linalg/int8.hpp"
#include "mxfp4/linalg/mxfp8.hpp"
#include "mxfp4/tensor/output_view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {
namespace kernel {
inline namespace MXFP4_ISA_NS {

inline constexpr std::int64_t kept_sums = 16384;     ///< floats on a stack
inline constexpr std::int64_t few_tokens = 8;        ///< whose activations are widened once for all tasks
inline constexpr std::int64_t kept_tokens = 64;      ///< of a task, where there are more
inline constexpr std::int64_t kept_rows_unit = 128;  ///< weights are cut there: a multiple of every layout's bands

/// Rows [first, first + count) of W, first a multiple of kept_rows_unit.
template <block_layout Layout>
[[nodiscard]] const_mx_view<Layout> rows_of(const const_mx_view<Layout>& w, std::int64_t first,
                                            std::int64_t count) noexcept {
  if (w.cols == 0) return {w.codes, w.scales, count, 0, w.code_stride, w.scale_stride};
  return {w.block_codes(first, 0), w.block_scale(first, 0), count, w.cols, w.code_stride, w.scale_stride};
}
[[nodiscard]] inline packed_view rows_of(const packed_view& w, std::int64_t first, std::int64_t count) noexcept {
  const std::int64_t tiles = mxfp4::detail::ceil_div(count, std::int64_t{tile_rows});
  if (w.blocks == 0) return {w.codes, w.scales, tiles, 0, count};
  return {w.block_codes(first / tile_rows, 0), w.block_scales(first / tile_rows, 0), tiles, w.blocks, count};
}
/// Tokens of X. src/dispatch has an overload too.
template <class T>
[[nodiscard]] dense_view<T> tokens_of(const dense_view<T>& x, std::int64_t first, std::int64_t count) noexcept {
  return {x.cols == 0 ? x.data : x.row(first), count, x.cols, x.stride};
}
template <class Byte>
[[nodiscard]] basic_mxfp8_view<Byte> tokens_of(const basic_mxfp8_view<Byte>& x, std::int64_t first,
                                               std::int64_t count) noexcept {
  if (x.cols == 0) return {x.elements, x.scales, count, 0, x.element_stride, x.scale_stride};
  const mxfp8_row row = x.row(first);
  return {row.elements, row.scales, count, x.cols, x.element_stride, x.scale_stride};
}

/// `sums` <- Y's part from (m, n) on, where a product is added to it.
inline void start_part(const mxfp4::detail::output_view& y, std::int64_t m, std::int64_t n,
                       const dense_view<float>& sums, bool accumulate) noexcept {
  if (!accumulate) return;
  for (std::int64_t r = 0; r < sums.rows; ++r) load_sums(y, m + r, n, sums.cols, sums.row(r));
}

/// Y's part from (m, n) on <- `sums`.
template <class Arch>
void finish_part(const mxfp4::detail::output_view& y, std::int64_t m, std::int64_t n, const dense_view<float>& sums,
                 const float* bias, executor_ref executor) {
  executor.run(static_cast<std::size_t>(sums.rows), [&](std::size_t i) noexcept {
    const auto r = static_cast<std::int64_t>(i);
    store_sums<Arch>(y, m + r, n, sums.cols, sums.row(r), bias);
  });
}

/// Up to few_tokens, all in one part: as many rows of W at a time as there are floats for.
template <class Arch, class Table, class W, class X>
[[gnu::noinline]] void few_rounded_f32(const Table& table, const W& w, const X& x, const mxfp4::detail::output_view& y,
                                       const float* bias, bool accumulate, executor_ref executor) {
  alignas(64) float memory[kept_sums];
  const std::int64_t most = kept_sums / x.rows / kept_rows_unit * kept_rows_unit;
  for (std::int64_t n = 0; n < w.rows; n += most) {
    const W part = rows_of(w, n, std::min(most, w.rows - n));
    const dense_view<float> sums{memory, x.rows, part.rows, part.rows};
    start_part(y, 0, n, sums, accumulate);
    if (x.rows == 1) gemv_f32<Arch>(table, part, x, memory, accumulate, executor);
    else gemm_f32<Arch>(detail::f32_source<Arch>(part, table), x, sums, accumulate, executor);
    finish_part<Arch>(y, 0, n, sums, bias, executor);
  }
}

/// More tokens: a task is some of them times some rows of W.
template <class Arch, class Table, class W, class X>
void many_rounded_f32(const Table& table, const W& w, const X& x, const mxfp4::detail::output_view& y,
                      const float* bias, bool accumulate, executor_ref executor) {
  constexpr std::int64_t most = kept_sums / kept_tokens;
  static_assert(most % kept_rows_unit == 0);
  const std::int64_t parts = mxfp4::detail::ceil_div(w.rows, most);
  const std::int64_t passes = mxfp4::detail::ceil_div(x.rows, kept_tokens);
  executor.run(static_cast<std::size_t>(parts * passes), [&](std::size_t task) {
    alignas(64) float memory[kept_sums];
    const auto pass = static_cast<std::int64_t>(task) / parts, n = static_cast<std::int64_t>(task) % parts * most;
    const std::int64_t m = x.rows * pass / passes, count = x.rows * (pass + 1) / passes - m;
    const W part = rows_of(w, n, std::min(most, w.rows - n));
    const dense_view<float> sums{memory, count, part.rows, part.rows};
    start_part(y, m, n, sums, accumulate);
    gemm_f32<Arch>(detail::f32_source<Arch>(part, table), tokens_of(x, m, count), sums, accumulate, {});
    finish_part<Arch>(y, m, n, sums, bias, {});
  });
}

/// product_f32 with outputs that are rounded.
template <class Arch, class Table, class W, class X>
status product_f32_rounded(const Table& table, const W& w, const X& x, const mxfp4::detail::output_view& y,
                           const gemm_options& options) {
  using mxfp4::detail::operand_of;
  if (const status s =
          mxfp4::detail::check_product(operand_of(w, "w"), operand_of(x, "x"), operand_of(y, "y"), options.bias);
      !s.ok())
    return s;
  if (w.rows == 0 || x.rows == 0) return {};
  const float* const bias = options.bias.empty() ? nullptr : options.bias.data();
  const auto run = x.rows <= few_tokens ? &few_rounded_f32<Arch, Table, W, X> : &many_rounded_f32<Arch, Table, W, X>;
  run(table, w, x, y, bias, options.accumulate, options.executor);
  return {};
}

template <class T>
[[nodiscard]] dense_view<const T> f32_tokens(const dense_view<T>& x) noexcept {
  static_assert(element_type<std::remove_const_t<T>>);
  return x;
}
template <class T>
[[nodiscard]] dense_view<const T> f32_tokens(const dense_view<const T>& x) noexcept {
  return x;
}
template <class Byte>
[[nodiscard]] const_mxfp8_view f32_tokens(const basic_mxfp8_view<Byte>& x) noexcept {
  return x;
}
[[nodiscard]] inline const_mxfp8_view f32_tokens(const mxfp8_activations& x) noexcept { return x.view(); }

}  // namespace MXFP4_ISA_NS
}  // namespace kernel

inline namespace MXFP4_ISA_NS {

/// gemm of linalg/f32.hpp and linalg/mxfp8.hpp with outputs in bf16 or f16.
///
/// @param w  a view, packed_view or packed_matrix.  @param x  float, bf16, f16, e4m3, or MXFP8.
/// @param y  M x N. An output is the sum that gemm has in float, the same bits, plus options.bias, rounded to float and
///           then to y's type, nearest even. With accumulate the sum starts at Y, which is exact.
/// @return   as gemm; nothing is written on an error.
/// Accuracy: gemm's bound, one rounding to float where there is a bias, and half a unit in the last place of y's type.
/// Special:  what does not fit becomes infinity: f16 from 65520 on. Any NaN is the canonical one, bf16 0x7FC0 and f16
///           0x7E00.
/// Same bits as gemm has, so for any number of tasks, and where else it says so.
/// Stack:    200 KiB of the caller's; of more than 8 tokens, 260 KiB of an executor's thread.
template <decode_dialect Dialect = dialect::ocp, class Arch = simd::native_arch, class W, class X, rounded_element T>
  requires(!std::same_as<X, int8_activations>)
status gemm(const W& w, const X& x, const dense_view<T>& y, const gemm_options& options = {}) {
  return kernel::product_f32_rounded<Arch>(simd::static_weight_table<float, Dialect>{}, kernel::f32_weights(w),
                                           kernel::f32_tokens(x), mxfp4::detail::output_view(y), options);
}

/// gemm of linalg/int8.hpp with outputs in bf16 or f16; as above. A tile's sums are rounded where float outputs would
/// be stored.
template <class Arch = simd::native_arch, class W, rounded_element T>
status gemm(const W& w, const int8_activations& x, const dense_view<T>& y, const gemm_options& options = {}) {
  return kernel::product_int8<Arch>(w, x, mxfp4::detail::output_view(y), options);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
