// mxfp4/core/float_types.hpp -- the storage types that weights come in.
// SPDX-License-Identifier: Apache-2.0
//
//            sign exponent mantissa  bias   largest          smallest        infinity   NaN
//   bf16       1      8        7     127    0x1.FEp127       2^-133          yes        yes
//   f16        1      5       10      15    65504            2^-24           yes        yes
//   e4m3       1      4        3       7    448              2^-9            no         0x7F and 0xFF only
//
// Source: IEEE 754-2019 (f16); OCP 8-bit Floating Point (OFP8) v1.0 (e4m3, the "fn" variant).
#pragma once

#include <concepts>
#include <cstdint>

#include "mxfp4/core/bits.hpp"
#include "mxfp4/core/config.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// The bits of a number, as a name of their own. Memory that holds them under another name (std::uint16_t, _Float16,
/// __bf16, std::bfloat16_t, a framework's own type) may be read and written through a pointer to these that was cast:
/// MXFP4_MAY_ALIAS makes that defined, with GCC, clang and nvcc.
///
/// bf16: 1 sign, 8 exponent and 7 mantissa bits, the upper half of a float.
enum class MXFP4_MAY_ALIAS bf16 : std::uint16_t {};
/// 1 sign, 5 exponent and 10 mantissa bits: IEEE 754 binary16. To be cast to as bf16.
enum class MXFP4_MAY_ALIAS f16 : std::uint16_t {};
/// 1 sign, 4 exponent and 3 mantissa bits, up to 448, no infinity (OCP OFP8). To be cast to as bf16.
enum class MXFP4_MAY_ALIAS e4m3 : std::uint8_t {};

/// What a tensor to be encoded may be made of.
template <class T>
concept element_type = std::same_as<T, float> || std::same_as<T, bf16> || std::same_as<T, f16> || std::same_as<T, e4m3>;

namespace detail {

/// |x| of a small format with `mantissa` explicit bits and exponent bias `bias`, no special values, as f32 bits: exact.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t widen_bits(std::uint32_t magnitude, int mantissa,
                                                                       int bias) noexcept {
  const std::uint32_t exponent = magnitude >> mantissa;
  if (exponent != 0)
    return (magnitude << (f32_mantissa_bits - mantissa)) +
           (static_cast<std::uint32_t>(f32_bias - bias) << f32_mantissa_bits);
  if (magnitude == 0) return 0;
  const int top = bit_width(magnitude) - 1;  // a subnormal: its leading bit becomes the implicit one
  return (static_cast<std::uint32_t>(top + 1 - mantissa - bias + f32_bias) << f32_mantissa_bits) |
         ((magnitude << (f32_mantissa_bits - top)) & f32_mantissa_mask);
}

/// Finite f32 magnitude rounded to nearest even in a small format. The result may run past the format's largest number:
/// the caller decides between infinity, saturation and NaN.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t narrow_bits(std::uint32_t magnitude, int mantissa,
                                                                        int bias) noexcept {
  const int stored = static_cast<int>(magnitude >> f32_mantissa_bits);
  std::uint32_t significand = magnitude & f32_mantissa_mask;
  if (stored != 0) significand |= 1u << f32_mantissa_bits;
  const int exponent = (stored == 0 ? 1 : stored) - f32_bias + bias;  // exponent field in the target, if it were normal
  int shift = f32_mantissa_bits - mantissa;
  if (exponent < 1) shift += 1 - exponent;
  if (shift > f32_mantissa_bits + 1) return 0;  // below half of the smallest subnormal
  std::uint32_t rounded = significand >> shift;
  const std::uint32_t rest = significand & ((1u << shift) - 1), half = 1u << (shift - 1);
  rounded += (rest > half || (rest == half && (rounded & 1u) != 0)) ? 1u : 0u;
  if (exponent < 1) return rounded;  // a carry into the exponent field is the right answer here and below
  return (static_cast<std::uint32_t>(exponent - 1) << mantissa) + rounded;
}

}  // namespace detail

// ---- to float: exact; NaN keeps its sign and as much of its payload as the type has ---------------------------------

/// The value of a number as float: itself.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr float decode(float x) noexcept { return x; }

/// Exact; a NaN keeps its payload.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr float decode(bf16 x) noexcept {
  return detail::float_from_bits(static_cast<std::uint32_t>(x) << 16);
}

/// Exact, subnormals included; a NaN keeps its payload.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr float decode(f16 x) noexcept {
  const auto bits = static_cast<std::uint32_t>(x);
  const std::uint32_t sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7FFFu;
  if (magnitude >= 0x7C00u) return detail::float_from_bits(sign | detail::f32_inf | (magnitude & 0x3FFu) << 13);
  return detail::float_from_bits(sign | detail::widen_bits(magnitude, 10, 15));
}

/// Exact; its one NaN becomes the canonical one.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr float decode(e4m3 x) noexcept {
  const auto bits = static_cast<std::uint32_t>(x);
  const std::uint32_t sign = (bits & 0x80u) << 24, magnitude = bits & 0x7Fu;
  if (magnitude == 0x7Fu) return detail::float_from_bits(sign | detail::f32_nan);
  return detail::float_from_bits(sign | detail::widen_bits(magnitude, 3, 7));
}

// ---- from float: nearest, ties to even; NaN stays a quiet NaN with its sign -----------------------------------------

/// Overflow gives infinity.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr bf16 encode_bf16(float x) noexcept {
  const std::uint32_t bits = detail::float_bits(x);
  if ((bits & detail::f32_abs_mask) > detail::f32_inf) return static_cast<bf16>(bits >> 16 | 0x40u);
  return static_cast<bf16>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

/// Overflow, from 65520 on, gives infinity.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr f16 encode_f16(float x) noexcept {
  const std::uint32_t bits = detail::float_bits(x), magnitude = bits & detail::f32_abs_mask;
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  if (magnitude > detail::f32_inf) return static_cast<f16>(sign | 0x7E00u | (magnitude >> 13 & 0x3FFu));
  if (magnitude >= 0x47800000u) return static_cast<f16>(sign | 0x7C00u);  // 2^16 and infinity
  return static_cast<f16>(sign | detail::narrow_bits(magnitude, 10, 15));
}

/// Saturates: beyond 448, infinity included, the result is +-448. NaN stays NaN.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e4m3 encode_e4m3(float x) noexcept {
  const std::uint32_t bits = detail::float_bits(x), magnitude = bits & detail::f32_abs_mask;
  const std::uint32_t sign = bits >> 24 & 0x80u;
  if (magnitude > detail::f32_inf) return static_cast<e4m3>(sign | 0x7Fu);
  if (magnitude >= 0x43E00000u) return static_cast<e4m3>(sign | 0x7Eu);  // 448
  return static_cast<e4m3>(sign | detail::narrow_bits(magnitude, 3, 7));
}

/// Like encode_e4m3, but what rounds beyond 448 is NaN: all above 464, a tie that goes to the even 448.
/// Source: ml_dtypes float8_e4m3fn.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e4m3 encode_e4m3_nan(float x) noexcept {
  const std::uint32_t bits = detail::float_bits(x), magnitude = bits & detail::f32_abs_mask;
  if (magnitude > 0x43E80000u) return static_cast<e4m3>((bits >> 24 & 0x80u) | 0x7Fu);  // 464
  return encode_e4m3(x);
}

/// `encode<T>(x)`: the conversions above, chosen by the type wanted.
template <class T>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr T encode(float x) noexcept {
  if constexpr (std::same_as<T, bf16>) {
    return encode_bf16(x);
  } else if constexpr (std::same_as<T, f16>) {
    return encode_f16(x);
  } else if constexpr (std::same_as<T, e4m3>) {
    return encode_e4m3(x);
  } else {
    static_assert(std::same_as<T, float>);
    return x;
  }
}

/// A weight of an FP8 tensor whose block of weights has `scale`: w * scale rounded to float and then to bf16, each to
/// nearest even: how FP8 checkpoints are read everywhere. Overflow gives infinity; NaN if either is NaN or for 0 *
/// infinity.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr bf16 decode_scaled(e4m3 w, float scale) noexcept {
  return encode_bf16(detail::multiply(decode(w), scale));
}

static_assert(decode_scaled(e4m3{0x38}, -3.0f) == bf16{0xC040} && decode_scaled(e4m3{0x7E}, 0x1p127f) == bf16{0x7F80});
static_assert(decode(f16{0x0001}) == 0x1p-24f && decode(f16{0x7BFF}) == 65504.0f && decode(f16{0x3C00}) == 1.0f);
static_assert(decode(e4m3{0x01}) == 0x1p-9f && decode(e4m3{0x7E}) == 448.0f && decode(e4m3{0xB8}) == -1.0f);
static_assert(encode_f16(65519.996f) == f16{0x7BFF} && encode_f16(65520.0f) == f16{0x7C00});
static_assert(encode_f16(0x1p-25f) == f16{0} && encode_f16(0x1.000002p-25f) == f16{1});
static_assert(encode_bf16(0x1.01p0f) == bf16{0x3F80} && encode_bf16(0x1.03p0f) == bf16{0x3F82});
static_assert(encode_e4m3(1e30f) == e4m3{0x7E} && encode_e4m3_nan(465.0f) == e4m3{0x7F});

}  // namespace mxfp4
