// mxfp4/cuda/device/fragment.cuh -- one MX block of sixteen rows as the A operand of two mma.m16n8k16.
// SPDX-License-Identifier: Apache-2.0
//
//   block of row r     word 0    word 1    word 2    word 3        16 bytes = one row of an 8 x 8 ldmatrix matrix
//   k (low_first)      0 .. 7    8 .. 15   16 .. 23  24 .. 31      lane (g, t) receives word t of rows g and g + 8
//
// A sum over k does not ask for an order of k, so a lane's eight k may stand anywhere in the two mma, as long as
// weights and activations agree: the lane (g, t) brings k = 8t .. 8t + 7 of rows g, g + 8 and of token g, two by two.
//
//   bf16   the scale goes into the weights, which are then exactly decode(code, scale): one sum over all of K
//   f16    has no room for the scale: a block is summed unscaled, then scaled in f32
#pragma once

#include <concepts>
#include <cstdint>

#include "mxfp4/cuda/device/decode.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

/// Does one of four scale bytes need the wide decoding? The plain one is right for bytes 0 .. 127, the wide one for
/// all: a scale of 2 or more needs a second factor, or makes infinities. Such scales are rare in weights.
MXFP4_DEVICE bool is_wide(std::uint32_t bytes) { return (bytes & 0x80808080u) != 0; }

/// How eight codes lie in a word: as a checkpoint has them, or with the even ones in the low half (mma16.cuh), where
/// codes 2j and 2j + 1 are nibbles j and 4 + j.
enum class nibbles { in_order, even_first };

/// The word shifted left, or right where `by` is negative; `by` is a constant once the loop is unrolled.
MXFP4_DEVICE std::uint32_t shifted(std::uint32_t word, int by) { return by >= 0 ? word << by : word >> -by; }

// ---- bf16: value * scale, exact -------------------------------------------------------------------------------------

/// Codes 2j (low half) and 2j + 1 as bf16 of value * 2^-126.
template <nibbles Order>
MXFP4_DEVICE std::uint32_t spread_bf16(std::uint32_t codes, int j) {
  constexpr std::uint32_t signs = 0x80008000u, magnitudes = 0x01C001C0u;
  if constexpr (Order == nibbles::even_first) {
    return (shifted(codes, 12 - 4 * j) & signs) | (shifted(codes, 6 - 4 * j) & magnitudes);
  } else {
    const auto i = static_cast<std::uint32_t>(j);  // of the byte; its upper nibble, and the lower one moved up
    const std::uint32_t pair = permute_bytes(codes, codes << 4, i << 12 | (4 + i) << 4);
    return (pair & signs) | (pair >> 6 & magnitudes);
  }
}

/// Eight codes under a scale byte: d[j] holds the weights of codes 2j and 2j + 1. 21 instructions, 19 for even_first.
template <bool Wide, nibbles Order>
MXFP4_DEVICE void fragment_words(bf16, std::uint32_t codes, std::uint32_t byte, std::uint32_t (&d)[4]) {
  MXFP4_UNROLL
  for (int j = 0; j < 4; ++j) {
    const std::uint32_t pair = spread_bf16<Order>(codes, j);
    if constexpr (Wide) d[j] = multiply_bf16x2(multiply_bf16x2(pair, 0x7E807E80u), scale_bf16x2(byte));  // 2^126
    else d[j] = multiply_bf16x2(pair, byte * 0x00800080u + 0x3F003F00u);  // 2^(byte - 1): 2^126 and the scale in one
  }
}

// ---- f16: value * 2^-14, exact; the scale follows in f32 ------------------------------------------------------------

/// Halves whose product with the scale is beyond f32, `byte` being 253 or 254, become infinite: a weight is the float
/// that decode(code, scale) gives.
MXFP4_DEVICE std::uint32_t overflow_f16(std::uint32_t pair, std::uint32_t byte) {
  const std::uint32_t first = byte == 254 ? 0x0800u : byte == 253 ? 0x0C00u : 0x8000u;  // 2, 4 or none, * 2^-14
  const std::uint32_t low = (pair & 0x7FFFu) >= first ? (pair & 0x8000u) | 0x7C00u : pair & 0xFFFFu;
  const std::uint32_t high = (pair >> 16 & 0x7FFFu) >= first ? (pair >> 16 & 0x8000u) | 0x7C00u : pair >> 16;
  return low | high << 16;
}

/// Eight codes in the same order. Wide: infinite where `byte` makes them so. 14 or 15 instructions.
template <bool Wide, nibbles Order>
MXFP4_DEVICE void fragment_words(f16, std::uint32_t codes, [[maybe_unused]] std::uint32_t byte, std::uint32_t (&d)[4]) {
  constexpr std::uint32_t signs = 0x80808080u, magnitudes = 0x0E0E0E0Eu, upper_bytes = 0xFF00FF00u;
  const std::uint32_t even = (codes << 4 & signs) | (codes << 1 & magnitudes);
  const std::uint32_t odd = (codes & signs) | (codes >> 3 & magnitudes);
  MXFP4_UNROLL
  for (int j = 0; j < 4; ++j) {
    const auto i = static_cast<std::uint32_t>(j);
    if constexpr (Order == nibbles::even_first)
      d[j] = ((shifted(codes, 12 - 4 * j) & signs) | (shifted(codes, 9 - 4 * j) & magnitudes)) & upper_bytes;
    else d[j] = permute_bytes(even, odd, (4 + i) << 12 | i << 4) & upper_bytes;
    if constexpr (Wide) d[j] = overflow_f16(d[j], byte);
  }
}

/// The scale as a float. Wide: any byte; otherwise all but 255.
template <bool Wide>
MXFP4_DEVICE float scale_f32(std::uint32_t byte) {
  if constexpr (Wide) {
    return decode(static_cast<e8m0>(byte));
  } else {
    const std::uint32_t bits = byte << 23, smallest = 0x00400000u;  // 2^-127
    return mxfp4::detail::float_from_bits(bits > smallest ? bits : smallest);
  }
}

// ---- the block ------------------------------------------------------------------------------------------------------

/// The lane's part of 16 rows x 32 k. X: what the activations are.
template <class X>
struct block_weights {
  std::uint32_t a[2][4];
};
template <>
struct block_weights<f16> {
  std::uint32_t a[2][4];
  float scale[2];  ///< of rows g and g + 8
};

/// @param low, high            the lane's words of rows g and g + 8
/// @param low_byte, high_byte  their scales
template <class X, bool Wide, nibbles Order = nibbles::in_order>
MXFP4_DEVICE block_weights<X> make_weights(std::uint32_t low, std::uint32_t high, std::uint32_t low_byte,
                                           std::uint32_t high_byte) {
  block_weights<X> w;
  std::uint32_t upper[4], lower[4];
  fragment_words<Wide, Order>(X{}, low, low_byte, upper);
  fragment_words<Wide, Order>(X{}, high, high_byte, lower);
  MXFP4_UNROLL
  for (int i = 0; i < 2; ++i) {
    w.a[i][0] = upper[2 * i];
    w.a[i][1] = lower[2 * i];
    w.a[i][2] = upper[2 * i + 1];
    w.a[i][3] = lower[2 * i + 1];
  }
  if constexpr (std::same_as<X, f16>) {
    w.scale[0] = scale_f32<Wide>(low_byte);
    w.scale[1] = scale_f32<Wide>(high_byte);
  }
  return w;
}

/// sum[row][token] += weights[row][k] * x[token][k] over the block; x: the lane's eight k of token g.
MXFP4_DEVICE void add_block(float (&sum)[4], const block_weights<bf16>& w, const word4& x) {
  const std::uint32_t first[2] = {x.x, x.y}, second[2] = {x.z, x.w};
  mma_bf16(sum, w.a[0], first);
  mma_bf16(sum, w.a[1], second);
}
/// The same in units of 2^-14: finish() is due at the end.
MXFP4_DEVICE void add_block(float (&sum)[4], const block_weights<f16>& w, const word4& x) {
  const std::uint32_t first[2] = {x.x, x.y}, second[2] = {x.z, x.w};
  float block[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  mma_f16(block, w.a[0], first);
  mma_f16(block, w.a[1], second);
  MXFP4_UNROLL
  for (int i = 0; i < 4; ++i) sum[i] = fused_multiply_add(block[i], w.scale[i >> 1], sum[i]);
}

/// A sum in the units of the weights.
template <class X>
MXFP4_DEVICE float finish(float sum) {
  return std::same_as<X, f16> ? sum * 0x1p14f : sum;
}

}  // namespace mxfp4::cuda::device
