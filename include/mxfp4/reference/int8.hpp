// mxfp4/reference/int8.hpp -- the W4A8 product as a plain loop: what every kernel equals, bit for bit.
// SPDX-License-Identifier: Apache-2.0
//
// Twice a weight is an integer, and an activation's code is one, so a block's 32 products are integers. Their sum
// (|sum| <= 48768) is exact, and is added to one float per output, blocks ascending:
//
//   acc = fma(sum, factor, acc)      factor = 2^(byte - 128) * scale, byte: the weights', scale: the activations'
//
// Where the factor is no normal float, or sum * factor may overflow, sum * factor is rounded to float and then added.
// With power-of-two scales (all but f32) that makes no difference: sum * 2^e is exact. Where an activation has several
// terms (residual2, residual3), each is such a sum by itself, and the output is acc[0] + (acc[1] + acc[2]).
#pragma once

#include <cmath>
#include <cstdint>

#include "mxfp4/format/dialect.hpp"
#include "mxfp4/tensor/activation.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

namespace detail {

/// The exponent fields of a factor under which sum * factor is a normal float or zero, as |sum| < 2^16.
inline constexpr int factor_field_min = 1, factor_field_max = 238;
/// The largest scale byte under which no weight overflows.
inline constexpr int finite_scale_max = 252;

/// acc + one block. weight(i) is an e2m1, code(i) an int; scale_exponent (see scale_exponent_of) and scale are those of
/// the activations' block.
template <class Weight, class Code>
[[nodiscard]] MXFP4_INLINE float int8_step(float acc, Weight weight, std::uint8_t byte, Code code, int scale_exponent,
                                           double scale) noexcept {
  if (byte == 255) return float_from_bits(f32_nan);
  if (byte > finite_scale_max) {  // a weight is its float decode: infinity where that overflows
    float special = 0.0f;
    bool any = false;
    for (int i = 0; i < block_size; ++i) {
      const float w = decode_weight(weight(i), static_cast<e8m0>(byte));
      if ((float_bits(w) & f32_abs_mask) != f32_inf) continue;
      special += w * static_cast<float>(code(i));
      any = true;
    }
    if (any) return acc + special;
  }
  int dot = 0;
  for (int i = 0; i < block_size; ++i) dot += doubled_weight(weight(i)) * code(i);
  if (dot == 0) return acc;
  const double factor = std::ldexp(scale, int{byte} - f32_bias - 1);
  const int field = int{byte} + scale_exponent;
  if (field >= factor_field_min && field <= factor_field_max)
    return std::fma(static_cast<float>(dot), static_cast<float>(factor), acc);
  const auto product = static_cast<float>(static_cast<double>(dot) * factor);
  return acc + product;
}

/// Any NaN becomes 0x7FC00000: which NaN a sum gives depends on the machine.
[[nodiscard]] MXFP4_INLINE constexpr float canonical(float y) noexcept {
  return is_nan_bits(float_bits(y)) ? float_from_bits(f32_nan) : y;
}

/// scale_exponent and scale of an activation block. The scale of a row (scaling row) is 1 here: the sums are multiplied
/// by it after the last block.
struct int8_block_scale {
  int scale_exponent;
  double scale;
};
[[nodiscard]] MXFP4_INLINE int8_block_scale scale_of(const int8_activations& x, std::int64_t row, std::int64_t b,
                                                     int term = 0) noexcept {
  if (x.scaling() == int8_scaling::row) return {-1, 1.0};
  const double scale = x.scale(row, b, term);
  if (x.scaling() == int8_scaling::f32) return {scale_exponent_of(static_cast<float>(scale)), scale};
  return {scale_exponent_of(x.scale_byte(row, b, term)), scale};
}

}  // namespace detail

namespace reference {
inline namespace MXFP4_ISA_NS {

/// Y[m][n] = sum over terms, and over blocks b, of (sum over the block of 2 w * q) * 2^(byte - 128) * scale; see the
/// top of this file.
///
/// @param w  N x K weights in any layout, dialect ocp.
/// @param x  M x K int8 activations.
/// @param y  M x N, overwritten; accumulate: the first term's sum starts at Y (row scaling: is added to Y by an FMA).
/// Special:  a token with NaN or infinity gives NaN; scale byte 0xFF gives NaN; weights that overflow follow IEEE.
template <class Byte, block_layout Layout>
status gemm(const basic_mx_view<Byte, Layout>& w, const int8_activations& x, const dense_view<float>& y,
            bool accumulate = false) noexcept {
  using mxfp4::detail::operand_of;
  if (const status s = mxfp4::detail::check_product(operand_of(w, "w"), operand_of(x, "x"), operand_of(y, "y"));
      !s.ok())
    return s;
  const bool per_row = x.scaling() == int8_scaling::row;
  for (std::int64_t m = 0; m < y.rows; ++m)
    for (std::int64_t n = 0; n < y.cols; ++n) {
      float acc = 0.0f;
      for (int term = x.terms() - 1; term >= 0; --term) {
        float sum = term == 0 && accumulate && !per_row ? y.row(m)[n] + 0.0f : 0.0f;
        for (std::int64_t b = 0; b < w.blocks(); ++b) {
          const std::uint8_t* const codes = w.block_codes(n, b);
          const auto [scale_exponent, scale] = mxfp4::detail::scale_of(x, m, b, term);
          sum = mxfp4::detail::int8_step(
              sum, [codes](int i) { return get_code<typename Layout::order>(codes, i); }, *w.block_scale(n, b),
              [&x, m, b, term](int i) { return int{x.code(m, b * block_size + i, term)}; }, scale_exponent, scale);
        }
        acc = term == x.terms() - 1 ? sum : sum + acc;
      }
      const float finish = x.finish(x.group_of(m))[m - x.first_row(x.group_of(m))];
      if (per_row) acc = accumulate ? std::fma(acc, finish, y.row(m)[n]) : acc * finish;
      else if (mxfp4::detail::is_nan_bits(mxfp4::detail::float_bits(finish))) acc = finish;
      y.row(m)[n] = mxfp4::detail::canonical(acc);
    }
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace reference
}  // namespace mxfp4
