// mxfp4/format/mxfp8.hpp -- 32 numbers <-> an MXFP8 block: 32 e4m3 elements under one E8M0 scale.
// SPDX-License-Identifier: Apache-2.0
//
//   value = e4m3 * 2^(byte - 127)
//
//   scaling   scale byte                                           amax / scale is
//   floor     E(amax) - 8, E = exponent field: OCP's rule          in [256, 512): beyond 448 it saturates to 448
//   rceil     the smallest power of two >= amax / 448              in (224, 448]: nothing saturates
//
// For activations (mxfp8_view.hpp); weights are always MXFP4.
// Source: OCP Microscaling Formats (MX) v1.0, "MXFP8", E4M3, and its conversion (6.3); rceil: cvt.rp of amax / 448.
#pragma once

#include <cstdint>

#include "mxfp4/core/bits.hpp"
#include "mxfp4/core/e8m0.hpp"
#include "mxfp4/core/float_types.hpp"
#include "mxfp4/format/nibble.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// How a scale is chosen: OCP's floor(log2 amax) - 8, or the least power of two that nothing saturates under.
enum class mxfp8_scaling : std::uint8_t { floor, rceil };

/// One encoded block.
struct mxfp8_block {
  e8m0 scale;                ///< the power of two that all elements are multiplied with
  e4m3 element[block_size];  ///< in order

  MXFP4_INLINE friend constexpr bool operator==(const mxfp8_block&, const mxfp8_block&) = default;
};
static_assert(sizeof(mxfp8_block) == 1 + block_size && alignof(mxfp8_block) == 1);

namespace detail {

inline constexpr int e4m3_emax = 8, e4m3_mantissa_bits = 3, e4m3_bias = 7;
inline constexpr std::uint32_t e4m3_max = 0x7E;               ///< 448
inline constexpr std::uint32_t e4m3_max_mantissa = 0x600000;  ///< of 448 = 1.75 * 2^8, as an f32

/// The scale byte for a largest magnitude, given as f32 bits: 255 for NaN and infinity.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint8_t mxfp8_scale(std::uint32_t amax,
                                                                       mxfp8_scaling scaling) noexcept {
  if (amax >= f32_inf) return 255;
  const int byte = static_cast<int>(amax >> f32_mantissa_bits) - e4m3_emax;
  // rceil rounds amax / 448 to a float first. Under byte 0 the quotient is subnormal: what is one ulp of amax above
  // 448 * 2^-127 still rounds down to 2^-127, so the threshold lies one ulp higher.
  const std::uint32_t seen = e4m3_max_mantissa + (byte == 0 ? 1u : 0u);
  const int up = scaling == mxfp8_scaling::rceil && (amax & f32_mantissa_mask) > seen ? 1 : 0;
  return static_cast<std::uint8_t>(byte + up > 0 ? byte + up : 0);
}

/// x / 2^(byte - 127) in e4m3: nearest, ties to even, saturating at 448; the sign of zero is kept. x is finite.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e4m3 mxfp8_element(std::uint32_t bits, int byte) noexcept {
  const std::uint32_t magnitude = bits & f32_abs_mask, sign = bits >> 24 & 0x80u;
  if (magnitude == 0) return static_cast<e4m3>(sign);
  int stored = static_cast<int>(magnitude >> f32_mantissa_bits);
  std::uint32_t mantissa = magnitude & f32_mantissa_mask;
  if (stored == 0) {  // a subnormal: its leading bit becomes the implicit one
    const int shift = f32_mantissa_bits + 1 - bit_width(mantissa);
    mantissa = mantissa << shift & f32_mantissa_mask;
    stored = 1 - shift;
  }
  // A power of two moves the exponent: a number with field 1 in a format whose bias is larger by the difference.
  const std::uint32_t one = 1u << f32_mantissa_bits;
  const std::uint32_t rounded =
      narrow_bits(one | mantissa, e4m3_mantissa_bits, e4m3_bias + f32_bias - byte + stored - 1);
  return static_cast<e4m3>(sign | (rounded < e4m3_max ? rounded : e4m3_max));
}

}  // namespace detail

/// 32 numbers in data units -> scale and elements. NaN or infinity in the block: byte 255, elements 0. All zeros: byte
/// 0. constexpr, and the same bytes under any floating-point flags or rounding mode.
/// Under rceil an element of a block with amax >= 1.9375 * 2^127 may round up to 2^128, which decodes to infinity.
template <element_type T>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr mxfp8_block encode_mxfp8(
    const T (&x)[block_size], mxfp8_scaling scaling = mxfp8_scaling::floor) noexcept {
  std::uint32_t amax = 0;
  for (int i = 0; i < block_size; ++i) {
    const std::uint32_t magnitude = detail::float_bits(decode(x[i])) & detail::f32_abs_mask;
    amax = magnitude > amax ? magnitude : amax;
  }
  const std::uint8_t byte = detail::mxfp8_scale(amax, scaling);
  mxfp8_block b{static_cast<e8m0>(byte), {}};
  for (int i = 0; i < block_size && byte != 255; ++i)
    b.element[i] = detail::mxfp8_element(detail::float_bits(decode(x[i])), byte);
  return b;
}

/// An element under a scale byte, in data units: exact, subnormals included (byte 0 reaches down to 2^-136), infinity
/// where it overflows (from 2^(255 - byte) on, byte 247 or more); NaN under byte 255 and for the element NaN.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr float decode(e4m3 element, e8m0 scale) noexcept {
  const std::uint32_t bits = detail::float_bits(decode(element));
  if (scale == e8m0::nan || detail::is_nan_bits(bits)) return detail::float_from_bits(detail::f32_nan);
  return detail::float_from_bits(
      detail::ldexp_bits(bits & detail::f32_abs_mask, static_cast<int>(scale) - detail::f32_bias) |
      (bits & ~detail::f32_abs_mask));
}

namespace detail {
[[nodiscard]] consteval bool mxfp8_is_ocp() {
  float x[block_size] = {500.0f, -448.0f, 464.0f, 1.0f, 0x1p-10f, 0x1.8p-9f, -0.0f};
  const mxfp8_block b = encode_mxfp8(x);
  return b.scale == e8m0::one && b.element[0] == e4m3{0x7E} && b.element[1] == e4m3{0xFE} &&
         b.element[2] == e4m3{0x7E} && b.element[3] == e4m3{0x38} && b.element[4] == e4m3{0} &&
         b.element[5] == e4m3{2} && b.element[6] == e4m3{0x80};
}
}  // namespace detail
static_assert(detail::mxfp8_is_ocp());
static_assert(detail::mxfp8_scale(detail::float_bits(448.0f), mxfp8_scaling::rceil) == 127 &&
              detail::mxfp8_scale(detail::float_bits(448.00003f), mxfp8_scaling::rceil) == 128 &&
              detail::mxfp8_scale(detail::float_bits(511.0f), mxfp8_scaling::floor) == 127);
static_assert(decode(e4m3{0x01}, e8m0{0}) == 0x1p-136f && decode(e4m3{0xFE}, e8m0::one) == -448.0f);

}  // namespace mxfp4
