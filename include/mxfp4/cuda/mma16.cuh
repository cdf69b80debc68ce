// mxfp4/cuda/mma16.cuh -- weights in the order in which the lanes of mma.m16n8k16 read them.
// SPDX-License-Identifier: Apache-2.0
//
//   codes    [tile of 16 rows][step of 64 columns][lane][16 bytes]       one coalesced load of 512 bytes for a warp
//   lane (g, t), its four words:    row g      blocks 0 and 1 of the step, codes 8t .. 8t + 7 of each:
//                                   row g + 8  { (g, 0), (g + 8, 0), (g, 1), (g + 8, 1) }
//   a word    its nibbles 7 .. 0 are codes 7 5 3 1 6 4 2 0: shifted by 4 i, it has codes 2i and 2i + 1, which are
//             neighbours in k, at the same place of its halves
//   scales   [tile][step][g][4 bytes]: the scales of the same four blocks
//
// Rows beyond the last and the second block of the last step, where there is none, are codes 0 under byte 127.
#pragma once

#include <cstdint>

#include "mxfp4/cuda/device/check.cuh"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda {

namespace mma16 {
inline constexpr std::int64_t rows = 16, cols = 64;                ///< of a tile's step
inline constexpr std::int64_t code_bytes = 512, scale_bytes = 32;  ///< of a tile's step
inline constexpr std::uint32_t padding_scales = 0x7F7F7F7Fu;       ///< 2^0

/// Tiles of a matrix with n rows.
[[nodiscard]] MXFP4_HD constexpr std::int64_t tiles(std::int64_t n) noexcept { return (n + rows - 1) / rows; }
/// Steps of a row with k elements.
[[nodiscard]] MXFP4_HD constexpr std::int64_t steps(std::int64_t k) noexcept { return (k + cols - 1) / cols; }
}  // namespace mma16

/// N x K weights in this order; Byte is std::uint8_t or const std::uint8_t. Codes are 16-byte aligned, scales 4-byte.
template <class Byte>
struct basic_mma16_view {
  Byte* codes = nullptr;   ///< aligned to 16 bytes
  Byte* scales = nullptr;  ///< aligned to 4 bytes
  std::int64_t rows = 0;   ///< of the matrix
  std::int64_t cols = 0;   ///< a multiple of 32

  /// The mutable view is a const one too.
  template <class B>
    requires(!std::is_const_v<Byte> && std::is_same_v<B, const Byte>)
  [[nodiscard]] MXFP4_HD constexpr operator basic_mma16_view<B>() const noexcept {
    return {codes, scales, rows, cols};
  }
};
/// Of memory that is written.
using mma16_view = basic_mma16_view<std::uint8_t>;
/// Of memory that is read.
using const_mma16_view = basic_mma16_view<const std::uint8_t>;

/// Bytes that codes and scales take, padding included.
[[nodiscard]] constexpr result<mx_bytes> mma16_bytes_needed(std::int64_t rows, std::int64_t cols) noexcept {
  if (const status s = mxfp4::detail::check_blocks(rows, cols, ""); !s.ok()) return s;
  const std::int64_t row_bytes = mma16::steps(cols) * mma16::code_bytes;
  if (rows > mxfp4::detail::int64_max - mma16::rows ||
      (row_bytes > 0 && mma16::tiles(rows) > mxfp4::detail::int64_max / row_bytes))
    return status{errc::size_overflow, "rows * cols", rows};
  return mx_bytes{mma16::tiles(rows) * row_bytes, mma16::tiles(rows) * mma16::steps(cols) * mma16::scale_bytes};
}

/// Is this view one that may be read and written?
template <class Byte>
[[nodiscard]] status check(const basic_mma16_view<Byte>& v, const char* argument = "") noexcept {
  const result<mx_bytes> need = mma16_bytes_needed(v.rows, v.cols);
  if (!need) {
    status s = need.error();
    s.argument = argument;
    return s;
  }
  if (const status s = detail::check_lines(v.rows, v.cols, argument); !s.ok()) return s;
  if (v.codes == nullptr) return {errc::null_pointer, "codes", 0, need->codes, argument};
  if (v.scales == nullptr) return {errc::null_pointer, "scales", 0, need->scales, argument};
  if (const status s = detail::check_alignment(v.codes, 16, "codes", argument); !s.ok()) return s;
  return detail::check_alignment(v.scales, 4, "scales", argument);
}

namespace device {

/// Nibbles 7 .. 0 of a word, 7 6 5 4 3 2 1 0 -> 7 5 3 1 6 4 2 0.
MXFP4_DEVICE std::uint32_t even_nibbles_first(std::uint32_t codes) {
  const auto even = [](std::uint32_t x) {
    x &= 0x0F0F0F0Fu;
    x = (x | x >> 4) & 0x00FF00FFu;
    return (x | x >> 8) & 0x0000FFFFu;
  };
  return even(codes) | even(codes >> 4) << 16;
}
/// The inverse.
MXFP4_DEVICE std::uint32_t nibbles_in_order(std::uint32_t codes) {
  const auto spread = [](std::uint32_t x) {
    x = (x | x << 8) & 0x00FF00FFu;
    return (x | x << 4) & 0x0F0F0F0Fu;
  };
  return spread(codes & 0xFFFFu) | spread(codes >> 16) << 4;
}

}  // namespace device

namespace kernel {

/// A thread is a lane of a step; Pack: rows to tiles, otherwise back.
template <bool Pack>
struct reorder_mma16 {
  static constexpr int threads = 128;
  static constexpr int blocks_per_processor = 8;
  using plain_byte = std::conditional_t<Pack, const std::uint8_t, std::uint8_t>;
  using tile_byte = std::conditional_t<Pack, std::uint8_t, const std::uint8_t>;
  struct arguments {
    basic_mx_view<plain_byte> plain;
    basic_mma16_view<tile_byte> tiles;
  };
  static MXFP4_DEVICE void run(const arguments& a) {
    const std::int64_t tiles = mma16::tiles(a.tiles.rows), steps = mma16::steps(a.tiles.cols);
    const std::int64_t grid_step = std::int64_t{device::grid_x()} * threads;
    for (std::int64_t tile = device::block_y(); tile < tiles; tile += device::grid_y())
      for (std::int64_t i = std::int64_t{device::block_x()} * threads + device::thread_index(); i < steps * 32;
           i += grid_step)
        move_lane(a, tile, i / 32, tile * steps + i / 32, static_cast<int>(i % 32));
  }

 private:
  static MXFP4_DEVICE void move_lane(const arguments& a, std::int64_t tile, std::int64_t step, std::int64_t place,
                                     int lane) {
    const int g = lane / 4, t = lane % 4;
    auto* const lane_codes = reinterpret_cast<std::conditional_t<Pack, device::word4, const device::word4>*>(
        a.tiles.codes + place * mma16::code_bytes + lane * 16);
    auto* const lane_scales = reinterpret_cast<std::conditional_t<Pack, std::uint32_t, const std::uint32_t>*>(
        a.tiles.scales + place * mma16::scale_bytes + g * 4);
    std::uint32_t words[4] = {0, 0, 0, 0}, scales = mma16::padding_scales;
    if constexpr (!Pack) {
      const device::word4 w = device::load_streaming(lane_codes);
      words[0] = w.x, words[1] = w.y, words[2] = w.z, words[3] = w.w;
      scales = device::load_constant(lane_scales);
    }
    MXFP4_UNROLL
    for (int j = 0; j < 4; ++j) {
      const std::int64_t row = tile * mma16::rows + g + 8 * (j % 2), b = step * 2 + j / 2;
      if (row >= a.plain.rows || b >= a.plain.blocks()) continue;
      auto* const word = reinterpret_cast<std::conditional_t<Pack, const std::uint32_t, std::uint32_t>*>(
          a.plain.block_codes(row, b) + 4 * t);
      if constexpr (Pack) {
        words[j] = device::even_nibbles_first(device::load_constant(word));
        if (t == 0)
          scales = (scales & ~(0xFFu << (8 * j))) | std::uint32_t{device::load_constant(a.plain.block_scale(row, b))}
                                                        << (8 * j);
      } else {
        device::store(word, device::nibbles_in_order(words[j]));
        if (t == 0) device::store(a.plain.block_scale(row, b), static_cast<std::uint8_t>(scales >> (8 * j)));
      }
    }
    if constexpr (Pack) {
      device::store(lane_codes, device::word4{words[0], words[1], words[2], words[3]});
      if (t == 0) device::store(lane_scales, scales);
    }
  }
};

}  // namespace kernel

/// For preload: pack_mma16 and unpack_mma16.
using mma16_kernels = kernel_set<kernel::reorder_mma16<true>, kernel::reorder_mma16<false>>;

/// Can `plain` and `tiles` be converted into each other?
/// @return ok, or what is wrong first: a size that is negative, zero or 2^31 and more; K no multiple of 32; a stride
///         shorter than a row; a null pointer; plain.codes or code_stride not a multiple of 4 bytes; tiles.codes not of
///         16, tiles.scales not of 4; shapes that differ; overlap.
template <class PlainByte, class TileByte>
[[nodiscard]] status check_mma16(const basic_mx_view<PlainByte>& plain,
                                 const basic_mma16_view<TileByte>& tiles) noexcept {
  if (const status s = detail::check_aligned(plain, 4, "plain"); !s.ok()) return s;
  if (const status s = check(tiles, "tiles"); !s.ok()) return s;
  if (tiles.rows != plain.rows) return {errc::shape_mismatch, "rows", tiles.rows, plain.rows, "tiles"};
  if (tiles.cols != plain.cols) return {errc::shape_mismatch, "cols", tiles.cols, plain.cols, "tiles"};
  const mx_bytes bytes = *mma16_bytes_needed(tiles.rows, tiles.cols);
  const mxfp4::detail::byte_range codes{tiles.codes, bytes.codes}, scales{tiles.scales, bytes.scales};
  for (const auto& plain_range : {mxfp4::detail::codes_of(plain), mxfp4::detail::scales_of(plain)})
    if (mxfp4::detail::overlap(plain_range, codes) || mxfp4::detail::overlap(plain_range, scales))
      return {errc::overlap, "tiles"};
  if (mxfp4::detail::overlap(codes, scales)) return {errc::overlap, "tiles"};
  return {};
}

/// Weights as a checkpoint has them -> the order of this file. No byte is interpreted, so unpack_mma16 gives them back.
/// @param w    N x K in device memory, K a multiple of 32; codes 4-byte aligned with such a stride.
/// @param out  the same shape, mma16_bytes_needed(N, K) bytes, all of which are written; must not overlap w.
/// @return     cudaSuccess, or why there is no launch: cudaErrorInvalidValue for what check_mma16 names; then nothing
///             is written. No workspace, no allocation, no waiting.
[[nodiscard]] inline cudaError_t pack_mma16(const const_mx_view<>& w, const mma16_view& out, cudaStream_t stream) {
  if (const status s = check_mma16(w, out); !s.ok()) return detail::error_of(s);
  using body = kernel::reorder_mma16<true>;
  return launch<body>(detail::rows_grid(mma16::tiles(w.rows), mma16::steps(w.cols) * 32, body::threads), 0, stream,
                      {w, out});
}
/// The inverse of pack_mma16: rows as a checkpoint has them.
[[nodiscard]] inline cudaError_t unpack_mma16(const const_mma16_view& w, const mx_view<>& out, cudaStream_t stream) {
  if (const status s = check_mma16(out, w); !s.ok()) return detail::error_of(s);
  using body = kernel::reorder_mma16<false>;
  return launch<body>(detail::rows_grid(mma16::tiles(w.rows), mma16::steps(w.cols) * 32, body::threads), 0, stream,
                      {out, w});
}

}  // namespace mxfp4::cuda
