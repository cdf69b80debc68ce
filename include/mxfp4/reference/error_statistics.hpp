// mxfp4/reference/error_statistics.hpp -- the error of quantised weights, counted and summed by a plain loop.
// SPDX-License-Identifier: Apache-2.0
//
//   weight w, finite      counted as   where                                                    error
//   is 0                  --           0 under any code                                         |q|
//   is not 0              lost         q is NaN or infinite, or the block has nothing but       |w|
//                                      zeros
//                         zeroed       q is 0, and the block has another number                 |w|
//                         saturated    |w| > 6 * scale, and q is not 0                          |w - q|
//                         --           else                                                     |w - q|
//   weight w, NaN or inf  nonfinite                                                             in no sum
//
// q is the weight in dialect ocp: NaN under scale byte 255.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "mxfp4/format/block.hpp"
#include "mxfp4/format/dialect.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "mxfp4/tensor/call_options.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// Sums over any number of tensors. saturated, zeroed, lost and nonfinite exclude one another.
struct error_statistics {
  std::int64_t weights = 0;     ///< all of them
  std::int64_t saturated = 0;   ///< |w| > 6 * scale: became 6 * scale, within half a step or farther away
  std::int64_t zeroed = 0;      ///< nonzero, but nearest to 0, in a block that has nonzero codes
  std::int64_t lost = 0;        ///< nonzero, and now NaN, infinite, or in a block that came out as nothing but zeros
  std::int64_t nonfinite = 0;   ///< NaN or infinity to begin with
  std::int64_t nan_blocks = 0;  ///< blocks with scale byte 255
  double squared_weights = 0;   ///< sum of w^2, finite w only
  double squared_error = 0;     ///< sum of (w - q)^2; a lost weight counts as q = 0
  double max_error = 0;         ///< largest |w - q|
  std::array<std::int64_t, 256> scales{};  ///< blocks by their scale byte

  /// Adds what another part of the weights lost. Not quite associative: sums are doubles.
  MXFP4_INLINE constexpr error_statistics& operator+=(const error_statistics& other) noexcept {
    weights += other.weights;
    saturated += other.saturated;
    zeroed += other.zeroed;
    lost += other.lost;
    nonfinite += other.nonfinite;
    nan_blocks += other.nan_blocks;
    squared_weights += other.squared_weights;
    squared_error += other.squared_error;
    max_error = other.max_error > max_error ? other.max_error : max_error;
    for (unsigned i = 0; i < 256; ++i) scales[i] += other.scales[i];
    return *this;
  }
  /// |W - Q|_F / |W|_F; 0 for a tensor of zeros.
  [[nodiscard]] MXFP4_INLINE double relative_error() const noexcept {
    return squared_weights > 0 ? std::sqrt(squared_error / squared_weights) : 0.0;
  }
};

namespace detail {

/// Calls add(i, w, q) for each finite weight of a block; counts the block, its scale byte and its weights.
/// @param bits   the weights as f32.  @param codes  one a byte.
template <class Add>
MXFP4_INLINE constexpr void measure_block(const std::uint32_t (&bits)[block_size], const e2m1 (&codes)[block_size],
                                          std::uint8_t scale_byte, error_statistics& to, Add add) noexcept {
  const auto scale = static_cast<e8m0>(scale_byte);
  const bool is_nan = scale == e8m0::nan;
  const double largest = is_nan ? 0.0 : 6.0 * static_cast<double>(decode(scale));
  bool any_code = false;
  for (const e2m1 c : codes) any_code = any_code || (static_cast<unsigned>(c) & 7u) != 0;
  for (int i = 0; i < block_size; ++i) {
    if ((bits[i] & f32_abs_mask) >= f32_inf) {
      ++to.nonfinite;
      continue;
    }
    const bool is_zero = (bits[i] & f32_abs_mask) == 0;
    const auto w = static_cast<double>(float_from_bits(bits[i]));
    const std::uint32_t weight = is_nan ? f32_nan : weight_bits(codes[i], scale);
    const bool readable = (weight & f32_abs_mask) < f32_inf;
    const double q = readable ? static_cast<double>(float_from_bits(weight)) : 0.0;
    if (!is_zero) {
      if (!any_code || !readable) ++to.lost;
      else if ((weight & f32_abs_mask) == 0) ++to.zeroed;
      else if ((w < 0 ? -w : w) > largest) ++to.saturated;
    }
    add(i, w, q);
  }
  to.weights += block_size;
  to.nan_blocks += is_nan ? 1 : 0;
  ++to.scales[scale_byte];
}

/// What is wrong with the arguments of measure_error.
template <class T, class Byte, block_layout Layout>
[[nodiscard]] MXFP4_INLINE status check_measure(const dense_view<T>& w, const basic_mx_view<Byte, Layout>& q) noexcept {
  return check_same_shape(w, "w", q);
}

}  // namespace detail

namespace reference {
inline namespace MXFP4_ISA_NS {

namespace detail {
/// Block (row, b) of q against its weights x.
template <block_layout Layout, class T, class Byte>
void measure_block(const T* x, const basic_mx_view<Byte, Layout>& q, std::int64_t row, std::int64_t b,
                   error_statistics& sum) noexcept {
  std::uint32_t bits[block_size];
  e2m1 codes[block_size];
  for (int i = 0; i < block_size; ++i) {
    bits[i] = mxfp4::detail::float_bits(decode(x[i]));
    codes[i] = get_code<typename Layout::order>(q.block_codes(row, b), i);
  }
  mxfp4::detail::measure_block(bits, codes, *q.block_scale(row, b), sum, [&sum](int, double w, double weight) {
    const double error = w < weight ? weight - w : w - weight;
    sum.squared_weights += w * w;
    sum.squared_error += error * error;
    sum.max_error = error > sum.max_error ? error : sum.max_error;
  });
}
}  // namespace detail

/// Adds to `sum` what `q` lost of `w`. Sums in double in the order of the elements: relative error up to
/// (2 + weights) * 2^-53. A machine that flushes subnormals to zero counts subnormal weights as zero.
/// @param w  rows x cols: float, bf16, f16 or e4m3.  @param q  the same shape, any layout.
/// @return   ok, or what is wrong with the arguments; `sum` is untouched then.
/// The order of the sums makes this one task, whatever the options say.
template <class T, class Byte, block_layout Layout>
status measure_error(const dense_view<T>& w, const basic_mx_view<Byte, Layout>& q, error_statistics& sum,
                     const run_options& = {}) noexcept {
  if (const status s = mxfp4::detail::check_measure(w, q); !s.ok()) return s;
  if (w.rows == 0 || w.cols == 0) return {};
  for (std::int64_t r = 0; r < w.rows; ++r)
    for (std::int64_t b = 0; b < q.blocks(); ++b)
      detail::measure_block<Layout>(w.row(r) + b * block_size, q, r, b, sum);
  return {};
}

/// FP8 -> MXFP4: the bytes of quantize_fp8; adds to `sum` what measure_error finds between w as bf16 and them.
/// @param sum  `nonfinite` counts weights that are NaN or infinite, which on_nonfinite::encode lets pass.
/// @return     ok, or what is wrong with the arguments; nothing is written then, and `sum` is untouched.
/// The executor encodes; the order of the sums makes measuring one task, as in measure_error.
template <block_recipe Recipe = recipe::ocp, block_layout Layout>
status quantize_fp8_measured(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                             const mx_view<Layout>& out, error_statistics& sum, const quantize_options& options = {}) {
  if (const status s = reference::quantize_fp8<Recipe>(w, scales, out, options); !s.ok()) return s;
  for (std::int64_t r = 0; r < w.rows && w.cols > 0; ++r)
    for (std::int64_t b = 0; b < out.blocks(); ++b) {
      bf16 x[block_size];
      detail::fp8_loader{w, scales}(r, b * block_size, x);
      detail::measure_block<Layout>(x, out, r, b, sum);
    }
  return {};
}

/// The same with the recipe chosen at run time; errc::unknown_recipe besides.
template <block_layout Layout>
status quantize_fp8_measured(recipe_id recipe, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                             const mx_view<Layout>& out, error_statistics& sum, const quantize_options& options = {}) {
  return mxfp4::detail::with_recipe(
      recipe, [&]<class R>() { return reference::quantize_fp8_measured<R>(w, scales, out, sum, options); });
}

}  // namespace MXFP4_ISA_NS
}  // namespace reference
}  // namespace mxfp4
