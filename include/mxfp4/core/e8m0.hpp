// mxfp4/core/e8m0.hpp -- one scale byte, as a power of two.
// SPDX-License-Identifier: Apache-2.0
//
//   byte b     0          1         ...   127   ...   254        255
//   value      2^-127     2^-126          1           2^127      NaN        no zero, no infinity, no sign
//
// Source: OCP Microscaling Formats (MX) v1.0, "E8M0". Byte 0 is a subnormal float: a reader that flushes subnormals to
// zero loses it.
#pragma once

#include <cstdint>

#include "mxfp4/core/bits.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// A block scale as its byte. A strong type: a scale can never be passed where a code is meant.
enum class e8m0 : std::uint8_t { one = 127, max = 254, nan = 255 };

/// 2^(byte - 127) exactly, 2^-127 included; byte 255 gives a quiet NaN.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr float decode(e8m0 scale) noexcept {
  if (scale == e8m0::nan) return detail::float_from_bits(detail::f32_nan);
  return detail::float_from_bits(detail::pow2_bits(static_cast<int>(scale) - detail::f32_bias));
}

static_assert(decode(e8m0::one) == 1.0f && decode(e8m0::max) == 0x1p127f);
static_assert(decode(e8m0{0}) == 0x1p-127f && decode(e8m0{1}) == 0x1p-126f);
static_assert(detail::float_bits(decode(e8m0::nan)) == detail::f32_nan);

}  // namespace mxfp4
