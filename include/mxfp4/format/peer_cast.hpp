// mxfp4/format/peer_cast.hpp -- single numbers as the peers cast them, special values included.
// SPDX-License-Identifier: Apache-2.0
//
// The library itself encodes with encode_e2m1 (rounding.hpp) and the scale rules (scale_rule.hpp). Other programs, the
// peers, agree with those on ordinary numbers and differ on NaN, infinity, zero and the ends of the range. Each
// function here is the cast of the peer in its name.
//
//              e2m1: NaN        +-inf           e8m0: 0     x < 0      NaN    +inf        > 2^127
//   cuda       7                saturates       0           |x|        255    255 | 254   255 | 254 (nosat | sat)
//   cutlass    7 with sign      saturates       0           |x|        255    255         254
//   ml_dtypes  0, sign flipped  saturates       255 | 0     255 | 0    255    255         255 | 254 (plain | saturate)
//   mlx        7                saturates       0           0          255    255         254
//   onednn     0                0               0           |x|        255    255         truncates
//
// Source: CUDA 13.0 headers; CUTLASS 7107b055; ml_dtypes b793a6e; MLX 846d1762; oneDNN 515bfba; torchao 36027d82.
#pragma once

#include <cstdint>

#include "mxfp4/core/e8m0.hpp"
#include "mxfp4/format/rounding.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::peer_cast {

// ---- float -> e2m1 --------------------------------------------------------------------------------------------------

/// __nv_cvt_float_to_fp4 with cudaRoundNearest (nearest_even) or cudaRoundZero (toward_zero). Also MLX: nearest_even.
template <rounding_rule Round = nearest_even>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e2m1 cuda_e2m1(float x) noexcept {
  return detail::is_nan_bits(detail::float_bits(x)) ? e2m1{7} : encode_e2m1<Round>(x);
}

/// float_e2m1_t on the host: encode_e2m1 itself, NaN saturates with its sign.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e2m1 cutlass_e2m1(float x) noexcept { return encode_e2m1(x); }

/// float4_e2m1fn: NaN becomes the zero of the other sign.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e2m1 ml_dtypes_e2m1(float x) noexcept {
  const std::uint32_t bits = detail::float_bits(x);
  return detail::is_nan_bits(bits) ? static_cast<e2m1>((~bits >> 31) << 3) : encode_e2m1(x);
}

/// compressed-tensors' cast after its clamp: -0 becomes code 0. A NaN is undefined there, code 0 here.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e2m1 compressed_tensors_e2m1(float x) noexcept {
  const std::uint32_t bits = detail::float_bits(x);
  return detail::is_nan_bits(bits) || bits == 0x80000000u ? e2m1{0} : encode_e2m1(x);
}

/// oneDNN's float2e2m1 takes the code at the least distance, computed in float, and of equal ones the even code. NaN
/// and infinity become 0. From 2^25 on the distances to 4 and to 6 may round to the same float, above 2^27 they always
/// do, and the answer is 4.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e2m1 onednn_e2m1(float x) noexcept {
  const std::uint32_t bits = detail::float_bits(x), magnitude = bits & detail::f32_abs_mask;
  if (magnitude >= detail::f32_inf) return e2m1{0};
  const bool odd_significand = (magnitude & 1u) != 0;  // then x - 6 is a tie that is rounded up to x - 4
  const bool merged = magnitude > detail::pow2_bits(27) || (magnitude > detail::pow2_bits(25) + 1u && odd_significand);
  return merged ? static_cast<e2m1>((bits >> 31) << 3 | 6u) : encode_e2m1(x);
}

// ---- float -> e8m0 --------------------------------------------------------------------------------------------------

namespace casts {
/// Exponent of a finite magnitude, plus one if its mantissa reaches the threshold (another one for subnormals).
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr int round_exponent(std::uint32_t magnitude, std::uint32_t threshold,
                                                                 std::uint32_t subnormal_threshold) noexcept {
  const auto exponent = static_cast<int>(magnitude >> detail::f32_mantissa_bits);
  const std::uint32_t mantissa = magnitude & detail::f32_mantissa_mask;
  return exponent + (mantissa >= (exponent == 0 ? subnormal_threshold : threshold) ? 1 : 0);
}
/// Exponent of the least power of two that is no smaller.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr int round_up(std::uint32_t magnitude) noexcept {
  return round_exponent(magnitude, 1, 0x400001u);
}
/// The scale byte, at most 254.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e8m0 at_most_max(int byte) noexcept {
  return byte > 254 ? e8m0::max : static_cast<e8m0>(byte);
}
}  // namespace casts

/// __nv_cvt_float_to_e8m0 with cudaRoundPosInf. The sign is ignored; an infinity saturates too under `satfinite`.
/// satfinite = false is also torchao's RCEIL cast.
template <bool satfinite>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e8m0 cuda_e8m0_up(float x) noexcept {
  const std::uint32_t magnitude = detail::float_bits(x) & detail::f32_abs_mask;
  if (magnitude > detail::f32_inf) return e8m0::nan;
  if (magnitude == detail::f32_inf) return satfinite ? e8m0::max : e8m0::nan;
  const int byte = casts::round_up(magnitude);
  return satfinite ? casts::at_most_max(byte) : static_cast<e8m0>(byte);
}

/// __nv_cvt_float_to_e8m0 with cudaRoundZero.
template <bool satfinite>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e8m0 cuda_e8m0_down(float x) noexcept {
  const std::uint32_t magnitude = detail::float_bits(x) & detail::f32_abs_mask;
  if (satfinite && magnitude == detail::f32_inf) return e8m0::max;
  return static_cast<e8m0>(magnitude >> detail::f32_mantissa_bits);
}

/// float_ue8m0_t on the host: upward, finite values saturate, infinity is 255. (Its PTX path gives 254 there.)
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e8m0 cutlass_e8m0(float x) noexcept {
  const std::uint32_t magnitude = detail::float_bits(x) & detail::f32_abs_mask;
  return magnitude >= detail::f32_inf ? e8m0::nan : casts::at_most_max(casts::round_up(magnitude));
}

/// float8_e8m0fnu: nearest, ties up; between 2^-127 and 2^-126 everything goes up. Zero and negative numbers are 255,
/// or 0 under `saturate`, which also keeps finite numbers at 254.
template <bool saturate>
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e8m0 ml_dtypes_e8m0(float x) noexcept {
  const std::uint32_t bits = detail::float_bits(x);
  if ((bits & detail::f32_abs_mask) >= detail::f32_inf) return e8m0::nan;
  if (bits == 0 || bits >> 31 != 0) return saturate ? e8m0{0} : e8m0::nan;
  const int byte = casts::round_exponent(bits, 0x400000u, 0x400001u);
  return saturate ? casts::at_most_max(byte) : static_cast<e8m0>(byte);
}

/// float8_e8m0fnu with truncation.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e8m0 ml_dtypes_e8m0_truncate(float x) noexcept {
  const std::uint32_t bits = detail::float_bits(x);
  return bits == 0 || bits >> 31 != 0 ? e8m0::nan : cuda_e8m0_down<false>(x);
}

namespace casts {
/// Mantissa of sqrt(2), moved by as many ulps as log2f, rounded to float, is off at this exponent field.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t sqrt2_threshold(std::uint32_t exponent) noexcept {
  if (exponent < 63) return 0x350513u;
  if (exponent < 95) return 0x350503u;
  if (exponent < 111) return 0x3504FCu;
  if (exponent < 119) return 0x3504F8u;
  if (exponent < 123) return 0x3504F6u;
  if (exponent < 125) return 0x3504F5u;
  if (exponent < 128) return 0x3504F4u;
  if (exponent < 131) return 0x3504F3u;
  if (exponent < 135) return 0x3504F2u;
  if (exponent < 143) return 0x3504F0u;
  if (exponent < 159) return 0x3504ECu;
  if (exponent < 191) return 0x3504E4u;
  return 0x3504D4u;
}
}  // namespace casts

/// fp8_e8m0: 2^round(log2f(x)), so the boundary is sqrt(2), some ulps off where log2f rounds. Zero and negative numbers
/// give byte 0.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e8m0 mlx_e8m0(float x) noexcept {
  const std::uint32_t bits = detail::float_bits(x), magnitude = bits & detail::f32_abs_mask;
  if (magnitude >= detail::f32_inf) return e8m0::nan;
  if (magnitude == 0 || bits >> 31 != 0) return e8m0{0};
  const std::uint32_t threshold = casts::sqrt2_threshold(magnitude >> detail::f32_mantissa_bits);
  return casts::at_most_max(casts::round_exponent(magnitude, threshold, 0x5A828Au));
}

/// oneDNN: the exponent field. (It reads byte 0 back as 0.0, not as 2^-127.)
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr e8m0 onednn_e8m0(float x) noexcept { return cuda_e8m0_down<false>(x); }

}  // namespace mxfp4::peer_cast
