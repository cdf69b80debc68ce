// src/checkpoint/exact_fp8.hpp -- MXFP4 weights as FP8 e4m3 with one scale per 128 x 128, without loss or not at all.
// SPDX-License-Identifier: Apache-2.0
//
// A weight is 0 or 1 * 2^e or 1.5 * 2^e. Under a scale 2^k, e4m3 holds 1.5 * 2^8 = 384 (its largest is 448) and every
// multiple of 2^-9 up to 2^-6, and the ones between with more digits than are needed here. So a 128 x 128 block fits
// iff
//
//   top - bottom <= 17     top: the largest e; bottom: the largest b such that every weight is a multiple of 2^b
//
// and any k in [top - 8, bottom + 9] does. Taken is the smallest that is a normal float, max(top - 8, -126): bottom is
// never below -128, so it is in that range. Real checkpoints stay within 8 octaves or so; a block that does not fit is
// refused, for a conversion that rounds quietly is worse than none. With scale bytes alone one could be sure only up to
// a difference of 14.
#pragma once

#include <cstdint>
#include <span>

#include "mxfp4/core/float_types.hpp"
#include "mxfp4/format/dialect.hpp"
#include "mxfp4/tensor/fp8.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// How many blocks of 128 rows or columns, the last one perhaps not full.
[[nodiscard]] constexpr std::int64_t fp8_block_count(std::int64_t n) noexcept {
  return n / fp8_block + (n % fp8_block != 0);
}

/// What the weights of a block span.
struct exponent_span {
  int top = -1000, bottom = 1000;  ///< top < bottom: all are zero
  bool nan = false;                ///< a scale byte is 255

  void add(const std::uint8_t* codes, std::uint8_t scale) noexcept;  ///< 32 weights, low nibble first
  [[nodiscard]] bool all_zero() const noexcept { return top < bottom; }
  [[nodiscard]] bool fits_e4m3() const noexcept { return !nan && (all_zero() || top - bottom <= 17); }
  [[nodiscard]] int scale_exponent() const noexcept;  ///< k; 0 where all are zero
};

/// Rows of MXFP4, at most 128 of them, to e4m3 and block scales: decode(fp8) * scale is the weight, bit for bit, the
/// sign of zero included.
/// @param cols    a multiple of 32.  codes rows x cols / 2, scales rows x cols / 32.
/// @param fp8     rows x cols.  @param block_scales  ceil(cols / 128).
/// @return        -1, or the index of the first block of 128 columns that does not fit; nothing is promised of the
///                output then, and `why` tells what it spans.
[[nodiscard]] std::int64_t encode_exact_fp8(std::span<const std::uint8_t> codes, std::span<const std::uint8_t> scales,
                                            std::int64_t rows, std::int64_t cols, std::span<e4m3> fp8,
                                            std::span<float> block_scales, exponent_span& why) noexcept;

}  // namespace mxfp4::checkpoint
