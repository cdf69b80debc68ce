// mxfp4/cuda/device/decode.cuh -- eight codes -> eight numbers in registers.
// SPDX-License-Identifier: Apache-2.0
//
//   word    codes 7 6 5 4 3 2 1 0, four bits each (low_first)         code   s e e m
//   bf16    s e e m at bits 15, 8, 7, 6: the number times 2^-126      f16   at bits 15, 11, 10, 9: times 2^-14
//   e4m3    at bits 7, 4, 3, 2: times 2^-6
//
// A code whose exponent field is 0 lands in an exponent field of 0, where the formats too are subnormal: 0.5 needs no
// case of its own, and one exact product restores the size. sm_100 and later convert to f16 in hardware.
#pragma once

#include <cstdint>
#include <type_traits>

#include "mxfp4/cuda/device/intrinsics.cuh"
#include "mxfp4/format/dialect.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

/// d[j]: the values of codes 2j (low half) and 2j + 1 as bf16, in units of the scale; exact, -0 kept. 21 instructions.
MXFP4_DEVICE void decode_bf16x8(std::uint32_t codes, std::uint32_t (&d)[4]) {
  constexpr std::uint32_t signs = 0x80008000u, magnitudes = 0x01C001C0u, two_to_126 = 0x7E807E80u;
  const std::uint32_t even = codes << 4;  // the codes 2j at the top of their bytes, as the codes 2j + 1 are in `codes`
  MXFP4_UNROLL
  for (std::uint32_t j = 0; j < 4; ++j) {
    const std::uint32_t pair = permute_bytes(codes, even, j << 12 | (4 + j) << 4);
    d[j] = multiply_bf16x2((pair & signs) | (pair >> 6 & magnitudes), two_to_126);
  }
}

/// The same as f16. 4 instructions where the target converts.
template <class Target = target>
MXFP4_DEVICE void decode_f16x8(std::uint32_t codes, std::uint32_t (&d)[4]) {
  if constexpr (Target::e2m1_convert) {
    convert_e2m1x8_f16(codes, d);
  } else {
    constexpr std::uint32_t signs = 0x80808080u, magnitudes = 0x0E0E0E0Eu, two_to_14 = 0x74007400u;
    const std::uint32_t even = (codes << 4 & signs) | (codes << 1 & magnitudes);  // the upper bytes of the f16
    const std::uint32_t odd = (codes & signs) | (codes >> 3 & magnitudes);
    MXFP4_UNROLL
    for (std::uint32_t j = 0; j < 4; ++j)
      d[j] = multiply_f16x2(permute_bytes(even, odd, (4 + j) << 12 | j << 4) & 0xFF00FF00u, two_to_14);
  }
}

/// Codes 0, 2, 4, 6 and codes 1, 3, 5, 7 as e4m3, in units of 2^-6 of the scale. 7 instructions.
MXFP4_DEVICE void decode_e4m3x8(std::uint32_t codes, std::uint32_t& even, std::uint32_t& odd) {
  constexpr std::uint32_t signs = 0x80808080u, magnitudes = 0x1C1C1C1Cu;
  even = (codes << 4 & signs) | (codes << 2 & magnitudes);
  odd = (codes & signs) | (codes >> 2 & magnitudes);
}

/// The same codes as the bytes that mma_e2m1_e4m3 takes: each in bits 2 to 5. 4 instructions.
MXFP4_DEVICE void spread_e2m1x8(std::uint32_t codes, std::uint32_t& even, std::uint32_t& odd) {
  even = codes << 2 & 0x3C3C3C3Cu;
  odd = codes >> 2 & 0x3C3C3C3Cu;
}

/// 2^(byte - 127) as bf16 in both halves; byte 0 is the subnormal 2^-127, byte 255 NaN.
MXFP4_DEVICE std::uint32_t scale_bf16x2(std::uint32_t byte) {
  const std::uint32_t bits = byte == 0 ? 0x0040u : byte == 255 ? 0x7FC0u : byte << 7;
  return bits | bits << 16;
}

/// Eight weights as bf16, the bits of decode_weight<bf16, Dialect>.
template <decode_dialect Dialect>
MXFP4_DEVICE void decode_weights_bf16x8(std::uint32_t codes, std::uint32_t byte, std::uint32_t (&d)[4]) {
  if constexpr (std::is_same_v<Dialect, dialect::ggml>) {
    // -0 is +0: the signs of zeros go. No carry: 7 + 7 fits a nibble.
    codes &= ((codes & 0x77777777u) + 0x77777777u) | 0x77777777u;
    const std::uint32_t again = byte == 255 ? 0x40004000u : 0x3F803F80u;  // byte 255 is 2^128, no bf16: 2^127 twice
    decode_bf16x8(codes, d);
    MXFP4_UNROLL
    for (std::uint32_t& pair : d)
      pair = multiply_bf16x2(multiply_bf16x2(pair, scale_bf16x2(byte == 255 ? 254 : byte)), again);
  } else {
    if (byte == 255 || (byte == 0 && std::is_same_v<Dialect, dialect::openvino>)) {  // the dialect's own; rare
      MXFP4_UNROLL
      for (std::uint32_t j = 0; j < 4; ++j) {
        const bf16 low =
            decode_weight<bf16, Dialect>(static_cast<e2m1>(codes >> (8 * j) & 15u), static_cast<e8m0>(byte));
        const bf16 high =
            decode_weight<bf16, Dialect>(static_cast<e2m1>(codes >> (8 * j + 4) & 15u), static_cast<e8m0>(byte));
        d[j] = static_cast<std::uint32_t>(low) | static_cast<std::uint32_t>(high) << 16;
      }
      return;
    }
    decode_bf16x8(codes, d);
    MXFP4_UNROLL
    for (std::uint32_t& pair : d) pair = multiply_bf16x2(pair, scale_bf16x2(byte));  // exact, or infinity
  }
}

}  // namespace mxfp4::cuda::device
