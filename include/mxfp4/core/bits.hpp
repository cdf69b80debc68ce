// mxfp4/core/bits.hpp -- floats as integers.
// SPDX-License-Identifier: Apache-2.0
//
//   f32 bits   31 30      23 22                      0
//              +-+----------+-------------------------+     |x| <= |y|  <=>  bits(|x|) <= bits(|y|)   (no NaN)
//              |S| exponent |        mantissa         |
//              +-+----------+-------------------------+
//
// Every scalar function that compares, rounds or looks at a sign does it on these integers. So the bytes do not depend
// on -ffast-math, on flush-to-zero, on the rounding mode or on FMA contraction.
#pragma once

#include <cstdint>

#include "mxfp4/core/config.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::detail {

inline constexpr std::uint32_t f32_abs_mask = 0x7FFFFFFFu;
inline constexpr std::uint32_t f32_mantissa_mask = 0x007FFFFFu;
inline constexpr std::uint32_t f32_inf = 0x7F800000u;
inline constexpr std::uint32_t f32_nan = 0x7FC00000u;  ///< the quiet NaN this library writes
inline constexpr int f32_mantissa_bits = 23;
inline constexpr int f32_bias = 127;

/// std::bit_cast is host-only under nvcc; the builtin behind it works on both sides.
template <class To, class From>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr To bit_cast(const From& from) noexcept {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, from);
}

[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t float_bits(float x) noexcept {
  return bit_cast<std::uint32_t>(x);
}
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr float float_from_bits(std::uint32_t bits) noexcept {
  return bit_cast<float>(bits);
}

[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr bool is_nan_bits(std::uint32_t bits) noexcept {
  return (bits & f32_abs_mask) > f32_inf;
}

/// Bits of |x| * 2^k, where `magnitude` holds the bits of a normal |x| or of zero. Overflow gives infinity.
/// A subnormal result must be exact: the callers' values have at most four significant bits and stay above 2^-146.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t ldexp_bits(std::uint32_t magnitude, int k) noexcept {
  if (magnitude == 0) return 0;
  const int exponent = static_cast<int>(magnitude >> f32_mantissa_bits) + k;
  if (exponent >= 255) return f32_inf;
  const std::uint32_t mantissa = magnitude & f32_mantissa_mask;
  if (exponent >= 1) return static_cast<std::uint32_t>(exponent) << f32_mantissa_bits | mantissa;
  return (mantissa | 1u << f32_mantissa_bits) >> (1 - exponent);
}

/// Bits of 2^k, rounded toward zero below the smallest subnormal 2^-149; k <= 127.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t pow2_bits(int k) noexcept {
  if (k >= -126) return static_cast<std::uint32_t>(k + f32_bias) << f32_mantissa_bits;
  return k >= -149 ? 1u << (k + 149) : 0u;
}

/// Number of bits of n, 0 for 0: std::bit_width for both sides of nvcc.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr int bit_width(std::uint32_t n) noexcept {
  int width = 0;
  for (; n != 0; n >>= 1) ++width;
  return width;
}

/// a * b rounded once, to nearest even, whatever the machine's rounding mode and flush-to-zero say. NaN if either is
/// NaN or for 0 * infinity.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr float multiply(float a, float b) noexcept {
  const std::uint32_t x = float_bits(a) & f32_abs_mask, y = float_bits(b) & f32_abs_mask;
  const std::uint32_t sign = (float_bits(a) ^ float_bits(b)) & ~f32_abs_mask;
  if (x > f32_inf || y > f32_inf || (x == f32_inf && y == 0) || (y == f32_inf && x == 0))
    return float_from_bits(f32_nan);
  if (x == f32_inf || y == f32_inf) return float_from_bits(sign | f32_inf);
  if (x == 0 || y == 0) return float_from_bits(sign);
  const int x_exponent = x >> f32_mantissa_bits == 0 ? 1 : static_cast<int>(x >> f32_mantissa_bits);
  const int y_exponent = y >> f32_mantissa_bits == 0 ? 1 : static_cast<int>(y >> f32_mantissa_bits);
  const std::uint64_t hidden = 1u << f32_mantissa_bits;
  std::uint64_t product = ((x & f32_mantissa_mask) | (x < hidden ? 0 : hidden)) *
                          ((y & f32_mantissa_mask) | (y < hidden ? 0 : hidden));  // 48 bits at the most, exact
  int exponent = x_exponent + y_exponent - f32_bias + 1;  // of the result, once the product's top bit is bit 47
  while (product < std::uint64_t{1} << 47) {              // only subnormal factors take more than one step
    product <<= 1;
    --exponent;
  }
  const int shift = exponent >= 1 ? 24 : 24 + 1 - exponent;
  if (shift > 48) return float_from_bits(sign);  // below half of the smallest subnormal
  std::uint64_t rounded = product >> shift;
  const std::uint64_t rest = product & ((std::uint64_t{1} << shift) - 1), half = std::uint64_t{1} << (shift - 1);
  rounded += rest > half || (rest == half && (rounded & 1u) != 0) ? 1u : 0u;
  // the hidden bit adds one to the exponent field below it; so does a carry out of the rounding
  const std::uint64_t bits =
      (static_cast<std::uint64_t>(exponent >= 1 ? exponent - 1 : 0) << f32_mantissa_bits) + rounded;
  return float_from_bits(sign | (bits >= f32_inf ? f32_inf : static_cast<std::uint32_t>(bits)));
}

static_assert(multiply(3.0f, -0.5f) == -1.5f && multiply(0x1p-149f, 0.5f) == 0.0f &&
              multiply(0x1p-149f, 1.5f) == 0x1p-148f);
static_assert(float_bits(multiply(0x1p127f, 2.0f)) == f32_inf);
static_assert(ldexp_bits(float_bits(6.0f), 2) == float_bits(24.0f) && ldexp_bits(0, 5) == 0);
static_assert(ldexp_bits(float_bits(0.5f), -127) == float_bits(0x1p-128f));
static_assert(ldexp_bits(float_bits(1.5f), -127) == float_bits(0x1.8p-127f));
static_assert(ldexp_bits(float_bits(2.0f), 127) == f32_inf && ldexp_bits(float_bits(1.5f), 127) == 0x7F400000u);
static_assert(pow2_bits(0) == float_bits(1.0f) && pow2_bits(-127) == 0x00400000u && pow2_bits(-149) == 1u);

}  // namespace mxfp4::detail
