// mxfp4/tensor/layout.hpp -- where the codes and the scale of block (row, b) live.
// SPDX-License-Identifier: Apache-2.0
//
//   compressed_tensors  codes [rows][cols/2], scales [rows][cols/32], low nibble first
//   gpt_oss             the same bytes, seen as [rows][cols/32][16]; stacked experts are more rows
//   mlx                 the same bytes, seen as little-endian words of eight codes
//   swizzled_128x4      codes as above; scales in tiles of 128 rows x 4 blocks, 512 bytes each, padded with byte 0
//   ggml                [rows][cols/32] blocks of 17 bytes: the scale, then 16 bytes in half_split order
//
//   in a tile of swizzled_128x4 the scale of (r, b) is byte (r % 32) * 16 + (r % 128 / 32) * 4 + b % 4: what cuBLAS and
//   the instruction tcgen05.mma read
//
// Source: OCP MX v1.0 leaves layout open; compressed-tensors ac8e2ba8, openai/gpt-oss, MLX 846d1762, ggml d99724f2,
// CUTLASS Sm1xxBlockScaledConfig<32> and torchao to_blocked 36027d82.
#pragma once

#include <concepts>
#include <cstdint>

#include "mxfp4/format/nibble.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

/// A layout gives byte offsets from the code pointer and the scale pointer of a view, and how many bytes a row of codes
/// and a row of scales take. rows_per_band: how many rows of the matrix one scale stride covers. interleaved: codes and
/// scales share one buffer.
template <class L>
concept block_layout = requires(std::int64_t n) {
  requires nibble_order<typename L::order>;
  { L::name } -> std::convertible_to<const char*>;
  { L::code_offset(n, n, n) } noexcept -> std::same_as<std::int64_t>;
  { L::scale_offset(n, n, n) } noexcept -> std::same_as<std::int64_t>;
  { L::code_row_bytes(n) } noexcept -> std::same_as<std::int64_t>;
  { L::scale_band_bytes(n) } noexcept -> std::same_as<std::int64_t>;
  { L::rows_per_band } -> std::convertible_to<std::int64_t>;
  { L::interleaved } -> std::convertible_to<bool>;
};

namespace layout {

/// Codes [rows][cols/2] and scales [rows][cols/32] apart, low nibble first; rows may have gaps.
struct compressed_tensors {
  using order = low_first;
  static constexpr const char* name = "compressed_tensors";
  static constexpr std::int64_t rows_per_band = 1;
  static constexpr bool interleaved = false;
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::int64_t code_offset(std::int64_t row, std::int64_t b,
                                                                                std::int64_t stride) noexcept {
    return row * stride + b * block_code_bytes;
  }
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::int64_t scale_offset(std::int64_t row, std::int64_t b,
                                                                                 std::int64_t stride) noexcept {
    return row * stride + b;
  }
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::int64_t code_row_bytes(std::int64_t blocks) noexcept {
    return blocks * block_code_bytes;
  }
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::int64_t scale_band_bytes(std::int64_t blocks) noexcept {
    return blocks;
  }
};

/// The same bytes under gpt-oss's name.
struct gpt_oss : compressed_tensors {
  static constexpr const char* name = "gpt_oss";
};

/// The same bytes under MLX's name.
struct mlx : compressed_tensors {
  static constexpr const char* name = "mlx";
};

/// Scales as cuBLAS and the tensor cores of Blackwell read them: see the picture above.
struct swizzled_128x4 : compressed_tensors {
  static constexpr const char* name = "swizzled_128x4";
  static constexpr std::int64_t rows_per_band = 128;
  static constexpr std::int64_t blocks_per_tile = 4;  ///< of scales
  static constexpr std::int64_t tile_bytes = 512;     ///< of scales
  static constexpr std::uint8_t padding = 0;          ///< in the places of rows and blocks that do not exist
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::int64_t scale_offset(std::int64_t row, std::int64_t b,
                                                                                 std::int64_t stride) noexcept {
    return row / rows_per_band * stride + b / blocks_per_tile * tile_bytes + row % 32 * 16 +
           row % rows_per_band / 32 * 4 + b % blocks_per_tile;
  }
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::int64_t scale_band_bytes(std::int64_t blocks) noexcept {
    return (blocks + blocks_per_tile - 1) / blocks_per_tile * tile_bytes;
  }
};

/// The code pointer of a view points at byte 1 of the first block, the scale pointer at byte 0.
struct ggml {
  using order = half_split;
  static constexpr const char* name = "ggml";
  static constexpr std::int64_t rows_per_band = 1;
  static constexpr bool interleaved = true;
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::int64_t code_offset(std::int64_t row, std::int64_t b,
                                                                                std::int64_t stride) noexcept {
    return row * stride + b * block_bytes;
  }
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::int64_t scale_offset(std::int64_t row, std::int64_t b,
                                                                                 std::int64_t stride) noexcept {
    return row * stride + b * block_bytes;
  }
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::int64_t code_row_bytes(std::int64_t blocks) noexcept {
    return blocks * block_bytes;
  }
  [[nodiscard]] MXFP4_HD MXFP4_INLINE static constexpr std::int64_t scale_band_bytes(std::int64_t blocks) noexcept {
    return blocks * block_bytes;
  }
};

}  // namespace layout

static_assert(block_layout<layout::compressed_tensors> && block_layout<layout::swizzled_128x4> &&
              block_layout<layout::ggml>);

}  // namespace mxfp4
