// mxfp4/simd/fp8_table.hpp -- FP8 weights under one scale -> MXFP4 and what was lost, by tables of bytes.
// SPDX-License-Identifier: Apache-2.0
//
// Where all products are normal numbers, a weight under a scale is one of eight words times a power of two, and its
// code depends on nothing but its distance to the largest weight of the block. So its FP8 byte becomes a place on a
// logarithmic axis with eight places to a binade:
//
//   magnitude     0    1    2    3    4   5   6   7    8 .. 126    127, NaN
//   place         0  112  120  124  128 130 132 134  136 .. 254    255
//
//   up    = largest place of a block + carry, down to a multiple of 8      scale byte = up / 8 + byte
//   index = place - (up - 120), 1 at least where the weight is not 0       0 .. 127: sixteen binades
//
// and tables with 128 entries give the code, |w| / s and |w - q| / s, the latter two as bf16, which is exact. Only an
// instruction set that looks up bytes among 128 uses them (avx512vnni_fp8_table.hpp); the others encode block by block.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "mxfp4/simd/encode.hpp"
#include "mxfp4/simd/isa.hpp"
#include "mxfp4/simd/words.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::simd {

/// Four rows of 128 weights.
inline constexpr std::int64_t fp8_tile_rows = 4, fp8_tile_cols = 128, fp8_tile_blocks = 4;

/// The tables of one FP8 scale, and the largest error so far.
struct alignas(64) fp8_table {
  std::uint8_t code[128];                                          ///< low nibble: of w > 0, high nibble: of w < 0
  std::uint8_t weight[2][128], error[2][128];                      ///< bytes 0 and 1 of |w| / s and |w - q| / s
  std::uint8_t mark[128];                                          ///< 1: above 6 s, 16: not 0, under code 0
  alignas(64) std::array<std::uint16_t, block_size> largest = {};  ///< errors, as bf16 in units of 2^(byte - 127)
  float scale;
  std::int32_t carry, byte;
  bool regular;  ///< false: no tables for this scale, its blocks are encoded one by one

  /// The largest |w - q|. An error of 0 is a word with the exponent of its scale alone: up / 8 <= 32.
  [[nodiscard]] MXFP4_INLINE double max_error() const noexcept {
    const std::uint16_t word = *std::max_element(largest.begin(), largest.end());
    if (word >> 7 < 64) return 0;
    return static_cast<double>(mxfp4::detail::float_from_bits(static_cast<std::uint32_t>(word) << 16)) * unit(byte);
  }
  /// 2^(field - 127), where `field` may be out of a float's range.
  [[nodiscard]] MXFP4_INLINE static constexpr double unit(int field) noexcept {
    return mxfp4::detail::bit_cast<double>(static_cast<std::uint64_t>(field - 127 + 1023) << 52);
  }
};

/// Sums of many tiles in doubles, lane by lane.
struct fp8_table_sums {
  alignas(64) std::array<double, 16> squared_weights{}, squared_error{};
  alignas(64) std::array<std::int64_t, 8> saturated{}, zeroed{};
  std::array<std::int64_t, 256> scales{};  ///< blocks by scale byte
  double max_error = 0;                    ///< of the weights that the tables do not have
};

}  // namespace mxfp4::simd

namespace mxfp4::inline MXFP4_VERSION_NS::detail {

[[nodiscard]] consteval std::array<std::uint8_t, 128> make_fp8_places() noexcept {
  std::array<std::uint8_t, 128> places = {0, 112, 120, 124, 128, 130, 132, 134};
  for (unsigned m = 8; m < 127; ++m) places[m] = static_cast<std::uint8_t>(m + 128);
  places[127] = 255;
  return places;
}
/// By magnitude of an e4m3.
alignas(64) inline constexpr std::array<std::uint8_t, 128> fp8_places = make_fp8_places();

}  // namespace mxfp4::detail
