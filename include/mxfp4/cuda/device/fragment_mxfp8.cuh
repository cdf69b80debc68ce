// mxfp4/cuda/device/fragment_mxfp8.cuh -- one MX block of sixteen rows times one of eight tokens in MXFP8.
// SPDX-License-Identifier: Apache-2.0
//
//   compiled for                 mma.m16n8k32                             scales
//   120a, 120f, 121a and such    e2m1 x e4m3, .kind::mxf8f6f4             in the tensor core
//   89, 120 and 121              e4m3 x e4m3, of 2^-6 times the codes     in f32, after each block
//   others                       have no mma of 8-bit floats: the kernels are empty there and are not launched
#pragma once

#include <cstdint>

#include "mxfp4/cuda/device/decode.cuh"
#include "mxfp4/cuda/device/fragment.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace device {

/// Does the target have one of the two?
template <class Target>
inline constexpr bool multiplies_mxfp8 = Target::block_scaled_mma || Target::e4m3_mma;

/// The even and the odd ones of a word's eight nibbles as bytes of A. 4 instructions block-scaled, else 7.
template <class Target>
MXFP4_DEVICE void mxfp8_weight_bytes(std::uint32_t codes, std::uint32_t& even, std::uint32_t& odd) {
  if constexpr (Target::block_scaled_mma) spread_e2m1x8(codes, even, odd);
  else decode_e4m3x8(codes, even, odd);
}

/// Whether one of four scale bytes of activations is from 192 on: 2^65 and more, or NaN. Below, the product with a
/// weight's scale that is not wide is no infinity.
MXFP4_DEVICE bool is_wide_mxfp8(std::uint32_t bytes) { return is_wide(bytes & bytes << 1); }

/// sum + block * 2^6 * 2^(w - 127) * 2^(x - 127); block: a sum of 32 products of an element and 2^-6 of a code, in
/// magnitude 0 or 2^-16 .. 1344. Wide: for any two bytes; multiplies by half of the exponent at a time, so that the
/// product overflows or underflows on the way only if the result does. Otherwise for w < 128 and x < 192, where the
/// factor is a float; below 2^-149 it is rounded, which changes the sum by less than 2^-150 * 1344.
template <bool Wide>
MXFP4_DEVICE float add_scaled(float sum, float block, std::uint32_t w, std::uint32_t x) {
  if constexpr (Wide) {
    const float nan = mxfp4::detail::float_from_bits(mxfp4::detail::f32_nan);
    const float units = fused_multiply_add(block, w == 255 ? nan : 0x1p6f, x == 255 ? nan : 0.0f);
    const float half = scale_f32<false>((w + x) >> 1), other_half = scale_f32<false>((w + x + 1) >> 1);
    return fused_multiply_add(multiply_f32(units, half), other_half, sum);
  } else {
    const auto power = [](std::uint32_t byte) { return mxfp4::detail::float_from_bits((byte + 3) << 23); };
    return fused_multiply_add(block, multiply_f32(power(w), power(x)), sum);
  }
}

/// d += a * b under scales, by mma_e4m3. Lane (g, t) gives the scale bytes of rows g and g + 8 in w, and of tokens 2t
/// and 2t + 1 in x.
template <bool Wide>
MXFP4_DEVICE void add_e4m3_block(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                 const std::uint32_t (&w)[2], const std::uint32_t (&x)[2]) {
  float block[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  mma_e4m3(block, a, b);
  MXFP4_UNROLL
  for (int i = 0; i < 4; ++i) d[i] = add_scaled<Wide>(d[i], block[i], w[i >> 1], x[i & 1]);
}

}  // namespace device

}  // namespace mxfp4::cuda
