// mxfp4/tensor/packed_view.hpp -- weights in the order tile16x32_v1, as pointers.
// SPDX-License-Identifier: Apache-2.0
//
//   codes  [tile][block][line g = 0..3][row 0..15][byte i = 0..3]   low nibble: element 4g + i, high: 16 + 4g + i
//   scales [tile][block][row 0..15]                                 rows beyond N: code 0, byte 127
#pragma once

#include <cstdint>

#include "mxfp4/format/nibble.hpp"
#include "mxfp4/tensor/product_check.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

inline constexpr int tile_rows = 16;                                   ///< rows of weights side by side
inline constexpr int tile_block_bytes = tile_rows * block_code_bytes;  ///< codes of 16 rows x 32 columns

/// Packed weights that somebody else owns: rows x 32 * blocks.
struct packed_view {
  const std::uint8_t* codes = nullptr;   ///< [tile][block][256]
  const std::uint8_t* scales = nullptr;  ///< [tile][block][16]
  std::int64_t tiles = 0;                ///< ceil(rows / 16)
  std::int64_t blocks = 0;               ///< of 32 columns
  std::int64_t rows = 0;                 ///< that exist

  /// K.
  [[nodiscard]] MXFP4_INLINE constexpr std::int64_t cols() const noexcept { return blocks * block_size; }
  /// The codes of a block of a tile: 256 bytes.
  [[nodiscard]] MXFP4_INLINE constexpr const std::uint8_t* block_codes(std::int64_t tile,
                                                                       std::int64_t b) const noexcept {
    return codes + (tile * blocks + b) * tile_block_bytes;
  }
  /// The scale bytes of a block of a tile: 16.
  [[nodiscard]] MXFP4_INLINE constexpr const std::uint8_t* block_scales(std::int64_t tile,
                                                                        std::int64_t b) const noexcept {
    return scales + (tile * blocks + b) * tile_rows;
  }
};

/// Can a product read these weights? Shape and pointers are checked; codes and scales may hold any bytes.
/// @param argument  its name, for the message.
MXFP4_INLINE status check(const packed_view& w, const char* argument = "") noexcept {
  if (w.rows < 0) return {errc::negative_size, "rows", w.rows, 0, argument};
  if (w.blocks < 0) return {errc::negative_size, "blocks", w.blocks, 0, argument};
  if (const auto n = detail::ceil_div(w.rows, tile_rows); w.tiles != n)
    return {errc::shape_mismatch, "tiles", w.tiles, n, argument};
  if (w.blocks > detail::int64_max / tile_block_bytes / (w.tiles > 0 ? w.tiles : 1))
    return {errc::size_overflow, "tiles * blocks", w.tiles, 0, argument};
  if (w.tiles == 0 || w.blocks == 0) return {};
  const std::int64_t code_bytes = w.tiles * w.blocks * tile_block_bytes, scale_bytes = w.tiles * w.blocks * tile_rows;
  if (w.codes == nullptr) return {errc::null_pointer, "codes", 0, code_bytes, argument};
  if (w.scales == nullptr) return {errc::null_pointer, "scales", 0, scale_bytes, argument};
  return {};
}

namespace detail {
[[nodiscard]] MXFP4_INLINE operand operand_of(const packed_view& w, const char* argument) noexcept {
  if (const status s = check(w, argument); !s.ok()) return {s};
  const std::int64_t blocks = w.tiles * w.blocks;
  return {{}, w.rows, w.cols(), {{w.codes, blocks * tile_block_bytes}, {w.scales, blocks * tile_rows}}};
}
}  // namespace detail

}  // namespace mxfp4
