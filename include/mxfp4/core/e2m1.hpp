// mxfp4/core/e2m1.hpp -- one FP4 element, as a code and as a number.
// SPDX-License-Identifier: Apache-2.0
//
//   code bits   3     2 1     0
//             +---+-------+-----+      value = (-1)^S * 2^(E-1) * (1 + M/2)    E != 0
//             | S |  E E  |  M  |              (-1)^S *           (    M/2)    E == 0
//             +---+-------+-----+      no Inf, no NaN; both zeros exist (codes 0 and 8)
//
// Source: OCP Microscaling Formats (MX) v1.0, "FP4", exponent bias 1.
#pragma once

#include <array>
#include <cstdint>

#include "mxfp4/core/bits.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// One FP4 element as its bit pattern 0..15. The upper four bits are zero.
enum class e2m1 : std::uint8_t {};

inline constexpr float e2m1_max = 6.0f;  ///< the largest magnitude
inline constexpr int e2m1_emax = 2;      ///< 6 = 1.5 * 2^2

namespace detail {

/// f32 bits of the number with the three-bit code `magnitude`. Codes 2 to 7 are the top bits of a float; code 1, the
/// subnormal 0.5, is not.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t e2m1_magnitude_bits(unsigned magnitude) noexcept {
  if (magnitude < 2) return magnitude * 0x3F000000u;
  return 0x3F000000u + (magnitude << 22);
}

/// f32 bits of the midpoint between the magnitudes `lower` and `lower + 1`, lower in 0..6.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr std::uint32_t e2m1_midpoint_bits(unsigned lower) noexcept {
  if (lower == 0) return 0x3E800000u;  // 0.25
  if (lower == 1) return 0x3F400000u;  // 0.75
  return e2m1_magnitude_bits(lower) + (1u << 21);
}

/// The value of a code by the formula at the top of this file; shares nothing with decode(), which is checked by it.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr float e2m1_from_fields(unsigned code) noexcept {
  const unsigned e = (code >> 1) & 3u, m = code & 1u;
  const float magnitude =
      e == 0 ? 0.5f * static_cast<float>(m) : static_cast<float>(1u << (e - 1)) * (1.0f + 0.5f * static_cast<float>(m));
  return (code & 8u) != 0 ? -magnitude : magnitude;
}

}  // namespace detail

/// The exact value of `x` in units of the block scale; code 8 is -0.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr float decode(e2m1 x) noexcept {
  const auto code = static_cast<unsigned>(x);
  return detail::float_from_bits(detail::e2m1_magnitude_bits(code & 7u) | (code & 8u) << 28);
}

namespace detail {
/// Twice the value, an integer: 0, 1, 2, 3, 4, 6, 8, 12 and their negatives.
[[nodiscard]] MXFP4_HD MXFP4_INLINE constexpr int doubled_weight(e2m1 x) noexcept {
  const unsigned code = static_cast<unsigned>(x) & 7u;
  const int magnitude = static_cast<int>(code < 2 ? code : (2u + (code & 1u)) << ((code >> 1) - 1));
  return (static_cast<unsigned>(x) & 8u) != 0 ? -magnitude : magnitude;
}

[[nodiscard]] consteval std::array<float, 16> make_e2m1_values() noexcept {
  std::array<float, 16> values{};
  for (unsigned code = 0; code < 16; ++code) values[code] = decode(static_cast<e2m1>(code));
  return values;
}
}  // namespace detail

/// The value of every code; the index is the bit pattern. 64 bytes: one cache line, one AVX-512 register.
alignas(64) inline constexpr std::array<float, 16> e2m1_values = detail::make_e2m1_values();

// ---- proof ----------------------------------------------------------------------------------------------------------
namespace detail {
inline constexpr float ocp_fp4[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};  // the standard's own list
[[nodiscard]] consteval bool e2m1_table_is_ocp() {
  for (unsigned c = 0; c < 8; ++c) {
    const std::uint32_t positive = float_bits(ocp_fp4[c]), negative = positive | 0x80000000u;  // bits: -0 counts
    if (float_bits(e2m1_values[c]) != positive || float_bits(e2m1_values[c + 8]) != negative) return false;
    if (float_bits(e2m1_from_fields(c)) != positive || float_bits(e2m1_from_fields(c + 8)) != negative) return false;
    const auto doubled = static_cast<int>(2.0f * ocp_fp4[c]);
    if (doubled_weight(static_cast<e2m1>(c)) != doubled || doubled_weight(static_cast<e2m1>(c + 8)) != -doubled)
      return false;
  }
  return true;
}
[[nodiscard]] consteval bool e2m1_midpoints_are_in_the_middle() {
  for (unsigned c = 0; c < 7; ++c)
    if (float_from_bits(e2m1_midpoint_bits(c)) != 0.5f * (ocp_fp4[c] + ocp_fp4[c + 1])) return false;
  return true;
}
}  // namespace detail
static_assert(detail::e2m1_table_is_ocp());
static_assert(detail::e2m1_midpoints_are_in_the_middle());

}  // namespace mxfp4
