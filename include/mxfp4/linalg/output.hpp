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

/// The sums of some tokens from m on with some rows of W from n on.
struct f32_part {
  std::int64_t m, n;
  dense_view<float> sums;
};

/// Multiplies a part, of X and W of any kind: a reference to a callable, so that what is below is compiled once.
class part_product {
 public:
  template <class F>
  explicit part_product(const F& multiply) noexcept : multiply_(&multiply), call_(&call<F>) {}
  void operator()(const f32_part& part, bool accumulate, executor_ref executor) const {
    call_(multiply_, part, accumulate, executor);
  }

 private:
  template <class F>
  static void call(const void* multiply, const f32_part& part, bool accumulate, executor_ref executor) {
    (*static_cast<const F*>(multiply))(part, accumulate, executor);
  }
  const void* multiply_;
  void (*call_)(const void*, const f32_part&, bool, executor_ref);
};

/// A part of Y from its product on. With accumulate, its sums start at Y.
template <class Arch>
void round_part(const part_product& multiply, const f32_part& part, const mxfp4::detail::output_view& y,
                const float* bias, bool accumulate, executor_ref executor) {
  const dense_view<float>& sums = part.sums;
  for (std::int64_t r = 0; accumulate && r < sums.rows; ++r) load_sums(y, part.m + r, part.n, sums.cols, sums.row(r));
  multiply(part, accumulate, executor);
  executor.run(static_cast<std::size_t>(sums.rows), [&](std::size_t i) noexcept {
    const auto r = static_cast<std::int64_t>(i);
    store_sums<Arch>(y, part.m + r, part.n, sums.cols, sums.row(r), bias);
  });
}

/// All of Y. Up to few_tokens: one part after the other, each of as many rows of W as there are floats for.
template <class Arch>
MXFP4_NOINLINE void round_few(const part_product& multiply, const mxfp4::detail::output_view& y, const float* bias,
                              bool accumulate, executor_ref executor) {
  alignas(64) float memory[kept_sums];
  const std::int64_t most = kept_sums / y.rows / kept_rows_unit * kept_rows_unit;
  for (std::int64_t n = 0; n < y.cols; n += most) {
    const std::int64_t rows = std::min(most, y.cols - n);
    round_part<Arch>(multiply, {0, n, {memory, y.rows, rows, rows}}, y, bias, accumulate, executor);
  }
}

/// More tokens: a task is a part.
template <class Arch>
void round_many(const part_product& multiply, const mxfp4::detail::output_view& y, const float* bias, bool accumulate,
                executor_ref executor) {
  constexpr std::int64_t most = kept_sums / kept_tokens;
  static_assert(most % kept_rows_unit == 0);
  const std::int64_t parts = mxfp4::detail::ceil_div(y.cols, most);
  const std::int64_t passes = mxfp4::detail::ceil_div(y.rows, kept_tokens);
  executor.run(static_cast<std::size_t>(parts * passes), [&](std::size_t task) {
    alignas(64) float memory[kept_sums];
    const auto pass = static_cast<std::int64_t>(task) / parts, n = static_cast<std::int64_t>(task) % parts * most;
    const std::int64_t m = y.rows * pass / passes, count = y.rows * (pass + 1) / passes - m;
    const std::int64_t rows = std::min(most, y.cols - n);
    round_part<Arch>(multiply, {m, n, {memory, count, rows, rows}}, y, bias, accumulate, {});
  });
}

/// A product in f32 with outputs that are rounded. The caller has checked the arguments.
template <class Arch, class Table, class W, class X>
void round_product_f32(const Table& table, const W& w, const X& x, const mxfp4::detail::output_view& y,
                       const gemm_options& options) {
  if (y.rows == 0 || y.cols == 0) return;
  const float* const bias = options.bias.empty() ? nullptr : options.bias.data();
  const auto multiply = [&](const f32_part& part, bool accumulate, executor_ref executor) {
    multiply_f32<Arch>(table, rows_of(w, part.n, part.sums.cols), tokens_of(x, part.m, part.sums.rows), part.sums,
                       accumulate, executor);
  };
  if (y.rows <= few_tokens) round_few<Arch>(part_product(multiply), y, bias, options.accumulate, options.executor);
  else round_many<Arch>(part_product(multiply), y, bias, options.accumulate, options.executor);
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
  round_product_f32<Arch>(table, w, x, y, options);
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
/// Stack:    200 KiB of the caller's (AVX2: 335); of more than 8 tokens, 260 KiB of an executor's thread (AVX2: 370).
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
