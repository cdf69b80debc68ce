// src/calibrate/one_block.hpp -- numbers of one MXFP4 block, as the roundings here take them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "mxfp4/block.hpp"

namespace mxfp4::calibrate {

/// Nearest E2M1 number of x / 2^e, ties to the even code, times 2^e; saturates at 6. The sign stays with a zero.
/// @param scale, inverse  2^e and 2^-e, both exact.
[[nodiscard]] inline float round_under(float x, float scale, float inverse) noexcept {
  const float a = std::min(std::fabs(x) * inverse, 6.0f);
  // Adding a number whose last bit is worth 1/2, 1 or 2 rounds to that: the steps of E2M1 below 2, below 4, up to 6.
  const float step = a < 2.0f ? 0x1.8p22f : a < 4.0f ? 0x1.8p23f : 0x1.8p24f;
  return std::copysign(((a + step) - step) * scale, x);
}

/// 2^(byte - 127), for a byte up to 254.
[[nodiscard]] inline float power_of_two(int byte) noexcept { return std::ldexp(1.0f, byte - 127); }

/// The OCP rule: the exponent of the largest magnitude less that of the largest element.
[[nodiscard]] inline int floor_byte(float amax) noexcept {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &amax, sizeof bits);
  return std::clamp(static_cast<int>(bits >> 23) - 2, 0, 254);
}

/// Codes, low_first, of 32 numbers that round_under made under the scale.
inline void write_block(const float* value, std::uint8_t scale, std::uint8_t* codes) {
  const float inverse = power_of_two(254 - scale);
  e2m1 code[block_size];
  for (std::int64_t c = 0; c < block_size; ++c) code[c] = encode_e2m1(value[c] * inverse);
  pack_block<low_first>(code, codes);
}

}  // namespace mxfp4::calibrate
