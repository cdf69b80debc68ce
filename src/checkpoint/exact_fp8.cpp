// src/checkpoint/exact_fp8.cpp -- what a block spans, and its weights under the scale that follows from it.
// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/exact_fp8.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

namespace {

constexpr int e4m3_top = 8;         // 1.5 * 2^8 <= 448
constexpr int least_normal = -126;  // of a float's exponent
constexpr int scale_bias = 127;

/// Exponents of the magnitudes 0.5, 1, 1.5, 2, 3, 4, 6: the number itself, and what it is a multiple of.
constexpr int code_top[8] = {0, -1, 0, 0, 1, 1, 2, 2};
constexpr int code_bottom[8] = {0, -1, 0, -1, 1, 0, 2, 1};

/// By a byte of two codes: which magnitudes they have, bit m for that of code m.
constexpr std::array<std::uint8_t, 256> present_magnitudes = [] {
  std::array<std::uint8_t, 256> all{};
  for (unsigned byte = 0; byte < all.size(); ++byte)
    all[byte] = static_cast<std::uint8_t>(1u << (byte & 7u) | 1u << (byte >> 4 & 7u));
  return all;
}();

/// code * 2^shift in e4m3, from 4 * 2^-11 to 0.5 * 2^9; outside of that a block holds zeros alone, the same under any
/// scale.
constexpr int least_shift = -11, greatest_shift = 9;
constexpr auto shifted_codes = [] {
  std::array<std::array<e4m3, 16>, greatest_shift - least_shift + 1> all{};
  for (int shift = least_shift; shift <= greatest_shift; ++shift)
    for (unsigned code = 0; code < 16; ++code)
      all[static_cast<std::size_t>(shift - least_shift)][code] =
          encode_e4m3(decode_weight(static_cast<e2m1>(code), static_cast<e8m0>(scale_bias + shift)));
  return all;
}();

}  // namespace

void exponent_span::add(const std::uint8_t* codes, std::uint8_t scale) noexcept {
  nan = nan || scale == static_cast<std::uint8_t>(e8m0::nan);
  unsigned present = 0;
  for (int i = 0; i < block_code_bytes; ++i) present |= present_magnitudes[codes[i]];
  for (unsigned c = 1; c < 8; ++c)
    if ((present >> c & 1u) != 0) {
      top = std::max(top, code_top[c] + scale - scale_bias);
      bottom = std::min(bottom, code_bottom[c] + scale - scale_bias);
    }
}

int exponent_span::scale_exponent() const noexcept { return all_zero() ? 0 : std::max(top - e4m3_top, least_normal); }

std::int64_t encode_exact_fp8(std::span<const std::uint8_t> codes, std::span<const std::uint8_t> scales,
                              std::int64_t rows, std::int64_t cols, std::span<e4m3> fp8, std::span<float> block_scales,
                              exponent_span& why) noexcept {
  const std::int64_t blocks = cols / block_size, per_tile = fp8_block / block_size;
  for (std::int64_t tile = 0; tile * per_tile < blocks; ++tile) {
    const std::int64_t begin = tile * per_tile, end = std::min(blocks, begin + per_tile);
    why = {};
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t b = begin; b < end; ++b)
        why.add(codes.data() + (r * blocks + b) * block_code_bytes, scales[static_cast<std::size_t>(r * blocks + b)]);
    if (!why.fits_e4m3()) return tile;
    const int exponent = why.scale_exponent();
    block_scales[static_cast<std::size_t>(tile)] = std::ldexp(1.0f, exponent);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t b = begin; b < end; ++b) {
        const std::uint8_t* bytes = codes.data() + (r * blocks + b) * block_code_bytes;
        const int shift = std::clamp(scales[static_cast<std::size_t>(r * blocks + b)] - scale_bias - exponent,
                                     least_shift, greatest_shift);
        const std::array<e4m3, 16>& values = shifted_codes[static_cast<std::size_t>(shift - least_shift)];
        e4m3* out = fp8.data() + r * cols + b * block_size;
        for (int i = 0; i < block_code_bytes; ++i) {
          out[2 * i] = values[bytes[i] & 15u];
          out[2 * i + 1] = values[bytes[i] >> 4];
        }
      }
  }
  return -1;
}

}  // namespace mxfp4::checkpoint
