// mxfp4/kernel/pack.hpp -- from a checkpoint's rows to the order of packed_matrix.
// SPDX-License-Identifier: Apache-2.0
//
// In half_split order (nibble.hpp) a row's block is four words of 4 bytes, and word g is the row's part of line g of
// the tile. So packing brings rows into half_split order and transposes 16 x 4 words, four rows at a time in registers
// of 16 bytes, or all 16 at once in registers of 64. A product with a view does it on every call.
#pragma once

#include <cstdint>
#include <cstring>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/call_options.hpp"
#include "mxfp4/tensor/packed_matrix.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {
namespace kernel {
inline namespace MXFP4_ISA_NS {

/// The 16 bytes of a block in half_split order.
template <nibble_order Order>
MXFP4_INLINE void to_half_split(const std::uint8_t* in, std::uint8_t* out) noexcept {
  if constexpr (std::is_same_v<Order, half_split>) {
    std::memcpy(out, in, block_code_bytes);
    return;
  }
#if defined(__SSE2__) || defined(__aarch64__)
  if constexpr (std::is_same_v<Order, low_first>) {
    using bytes = simd::batch<std::uint8_t, simd::register128>;
    using words = simd::batch<std::uint16_t, simd::register128>;
    const bytes codes = bytes::load_unaligned(in), nibble(std::uint8_t{15});
    const bytes even = codes & nibble;
    const bytes odd = simd::bitwise_cast<std::uint8_t>(simd::bitwise_cast<std::uint16_t>(codes) >> 4) & nibble;
    const words last = simd::bitwise_cast<std::uint16_t>(simd::zip_hi(even, odd)) << 4;
    const bytes all = simd::zip_lo(even, odd) | simd::bitwise_cast<std::uint8_t>(last);
    all.store_unaligned(out);
    return;
  }
#endif
  e2m1 codes[block_size]{};
  unpack_block<Order>(in, codes);
  pack_block<half_split>(codes, out);
}

#if defined(__SSE2__) || defined(__aarch64__)
inline constexpr bool has_register128 = true;
template <class T>
using lanes128 = simd::batch<T, simd::register128>;

/// low_first blocks of rows a, b, c, d -> out + 64 g, g = 0..3: word g of each in half_split order.
MXFP4_INLINE void transpose_low_first(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                      const std::uint8_t* d, std::uint8_t* out) noexcept {
  using bytes = lanes128<std::uint8_t>;
  using pairs = lanes128<std::uint16_t>;
  using words = lanes128<std::uint32_t>;
  struct two {
    words first, second;
  };
  // Of the blocks of two rows, in half_split order: words 0 and 1 of both, interleaved, then words 2 and 3.
  const auto of_two = [](const std::uint8_t* p, const std::uint8_t* q) noexcept {
    const words x = simd::bitwise_cast<std::uint32_t>(bytes::load_unaligned(p));
    const words y = simd::bitwise_cast<std::uint32_t>(bytes::load_unaligned(q));
    const pairs front = simd::bitwise_cast<std::uint16_t>(simd::zip_lo(x, y));  // bytes 0..3, 4..7: elements 0..15
    const pairs back = simd::bitwise_cast<std::uint16_t>(simd::zip_hi(x, y));   // bytes 8..15: elements 16..31
    const pairs low(std::uint16_t{0x0F0F}), high(std::uint16_t{0xF0F0});
    const bytes even = simd::bitwise_cast<std::uint8_t>((front & low) | ((back & low) << 4));
    const bytes odd = simd::bitwise_cast<std::uint8_t>(((front >> 4) & low) | (back & high));
    return two{simd::bitwise_cast<std::uint32_t>(simd::zip_lo(even, odd)),
               simd::bitwise_cast<std::uint32_t>(simd::zip_hi(even, odd))};
  };
  const auto store = [out](int g, const words& x, const words& y) noexcept {
    const auto ab = simd::bitwise_cast<std::uint64_t>(simd::zip_lo(x, y));
    const auto cd = simd::bitwise_cast<std::uint64_t>(simd::zip_hi(x, y));
    simd::bitwise_cast<std::uint8_t>(simd::zip_lo(ab, cd)).store_unaligned(out + tile_line_bytes * g);
    simd::bitwise_cast<std::uint8_t>(simd::zip_hi(ab, cd)).store_unaligned(out + tile_line_bytes * (g + 1));
  };
  const two ac = of_two(a, c), bd = of_two(b, d);
  store(0, ac.first, bd.first);
  store(2, ac.second, bd.second);
}

/// 16 scale bytes of each of 16 rows -> [block][row].
MXFP4_INLINE void transpose_scales(const std::uint8_t* const (&row)[tile_rows], std::uint8_t* out) noexcept {
  using bytes = lanes128<std::uint8_t>;
  bytes at[tile_rows], next[tile_rows];
  MXFP4_UNROLL
  for (int r = 0; r < tile_rows; ++r) at[r] = bytes::load_unaligned(row[r]);
  MXFP4_UNROLL
  for (int round = 0; round < 4;
       ++round) {  // each rotates the 8 bits of a byte's index (row, block) by one; 4 swap them
    MXFP4_UNROLL
    for (int r = 0; r < tile_rows / 2; ++r) {
      next[2 * r] = simd::zip_lo(at[r], at[r + tile_rows / 2]);
      next[2 * r + 1] = simd::zip_hi(at[r], at[r + tile_rows / 2]);
    }
    MXFP4_UNROLL
    for (int r = 0; r < tile_rows; ++r) at[r] = next[r];
  }
  MXFP4_UNROLL
  for (int r = 0; r < tile_rows; ++r) at[r].store_unaligned(out + tile_rows * r);
}
#else
inline constexpr bool has_register128 = false;
#endif

/// A block of rows a, b, c, d -> out + 64 g, g = 0..3: word g of each in half_split order.
template <nibble_order Order>
MXFP4_INLINE void transpose_in_half_split(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                                          const std::uint8_t* d, std::uint8_t* out) noexcept {
  if constexpr (std::is_same_v<Order, half_split>) {
    simd::transpose_rows(a, b, c, d, out);
  } else if constexpr (std::is_same_v<Order, low_first> && has_register128) {
#if defined(__SSE2__) || defined(__aarch64__)
    transpose_low_first(a, b, c, d, out);
#endif
  } else {
    const std::uint8_t* const from[4] = {a, b, c, d};
    std::uint8_t half[4][block_code_bytes];
    for (int i = 0; i < 4; ++i) to_half_split<Order>(from[i], half[i]);
    simd::transpose_rows(half[0], half[1], half[2], half[3], out);
  }
}

/// The codes of a block of 16 rows, each at `at` behind its pointer, in tile order.
template <nibble_order Order, class Arch = simd::native_arch>
MXFP4_INLINE void gather_block(const std::uint8_t* const (&rows)[tile_rows], std::int64_t at,
                               std::uint8_t* codes) noexcept {
  using transposer = simd::tile_transposer<Arch>;
  if constexpr (std::is_same_v<Order, low_first> && transposer::available) {
    transposer::transpose(rows, at, codes);
  } else {
    for (int r = 0; r < tile_rows; r += 4)
      transpose_in_half_split<Order>(rows[r] + at, rows[r + 1] + at, rows[r + 2] + at, rows[r + 3] + at,
                                     codes + mxfp4::detail::tile_offset(r, 0));
  }
}

/// The scale bytes of blocks [first, first + blocks) of the tile that starts at row `row`, 16 a block; rows past the
/// end of w have those of its last one.
template <class Byte, block_layout Layout>
void gather_scales(const basic_mx_view<Byte, Layout>& w, std::int64_t row, std::int64_t first, std::int64_t blocks,
                   std::uint8_t* scales) noexcept {
  const std::uint8_t* scale[tile_rows];
  for (int r = 0; r < tile_rows; ++r) scale[r] = w.block_scale(row + r < w.rows ? row + r : w.rows - 1, 0);
  std::int64_t b = 0;
#if defined(__SSE2__) || defined(__aarch64__)
  if constexpr (Layout::rows_per_band == 1 && !Layout::interleaved) {  // a row's scales follow one another
    for (; b + tile_rows <= blocks; b += tile_rows) {
      const std::uint8_t* from[tile_rows];
      for (int r = 0; r < tile_rows; ++r) from[r] = scale[r] + first + b;
      transpose_scales(from, scales + b * tile_rows);
    }
  }
#endif
  for (; b < blocks; ++b)
    for (int r = 0; r < tile_rows; ++r) scales[b * tile_rows + r] = scale[r][Layout::scale_offset(0, first + b, 0)];
}

/// Blocks [first, first + blocks) of the tile that starts at row `row`, into `codes` (256 bytes a block) and `scales`
/// (16 a block); rows past the end of w become padding.
/// @tparam Ahead  blocks from those that are written to those whose memory is fetched meanwhile; 0: it is in a cache.
template <std::int64_t Ahead = 0, class Byte, block_layout Layout>
void gather_tile(const basic_mx_view<Byte, Layout>& w, std::int64_t row, std::int64_t first, std::int64_t blocks,
                 std::uint8_t* codes, std::uint8_t* scales) noexcept {
  constexpr std::int64_t line = 4;  // blocks, whose codes are one cache line of a row (two where it is not aligned)
  const int rows = static_cast<int>(w.rows - row < tile_rows ? w.rows - row : tile_rows);
  const auto clamp = [&w](std::int64_t r) noexcept { return r < w.rows ? r : w.rows - 1; };
  const std::uint8_t* code[tile_rows];
  const std::uint8_t* next[tile_rows];
  for (int r = 0; r < tile_rows; ++r) {
    code[r] = w.block_codes(clamp(row + r), first);
    next[r] = w.block_codes(clamp(row + r + tile_rows), first);
  }
  for (std::int64_t b = 0; b < blocks; b += line) {
    const std::int64_t end = b + line < blocks ? b + line : blocks;
    if constexpr (Ahead > 0) {
      // An address: the next tile's, and behind the last one that of nothing.
      const auto soon =
          reinterpret_cast<std::uintptr_t>(codes) + static_cast<std::uintptr_t>((b + Ahead) * tile_block_bytes);
      for (int i = 0; i < line * tile_lines; ++i)
        simd::prefetch_written(reinterpret_cast<const void*>(soon + static_cast<std::uintptr_t>(i * tile_line_bytes)));
    }
    for (int r = 0; r < tile_rows; ++r) simd::prefetch_soon(next[r] + Layout::code_offset(0, b, 0));
    for (std::int64_t i = b; i < end; ++i)
      gather_block<typename Layout::order>(code, Layout::code_offset(0, i, 0), codes + i * tile_block_bytes);
  }
  gather_scales(w, row, first, blocks, scales);
  for (int r = rows; r < tile_rows; ++r)
    for (std::int64_t b = 0; b < blocks; ++b) {
      for (int g = 0; g < tile_lines; ++g)
        std::memset(codes + b * tile_block_bytes + mxfp4::detail::tile_offset(r, g), 0, 4);
      scales[b * tile_rows + r] = tile_padding_scale;
    }
}

/// The smallest and the largest of 16 scale bytes a block, those of blocks of zeros too.
[[nodiscard]] inline scale_range all_scales_range(const std::uint8_t* scales, std::int64_t blocks) noexcept {
  unsigned lowest = 255, highest = 0;
  const auto include = [&](const std::uint8_t* low, const std::uint8_t* high, std::int64_t count) noexcept {
    for (std::int64_t i = 0; i < count; ++i) {
      lowest = low[i] < lowest ? low[i] : lowest;
      highest = high[i] > highest ? high[i] : highest;
    }
  };
#if defined(__SSE2__) || defined(__aarch64__)
  using bytes = lanes128<std::uint8_t>;
  bytes low(std::uint8_t{255}), high(std::uint8_t{0});
  for (std::int64_t b = 0; b < blocks; ++b) {
    const bytes row = bytes::load_unaligned(scales + b * tile_rows);
    low = simd::min_bytes(low, row);
    high = simd::max_bytes(high, row);
  }
  std::uint8_t lows[tile_rows], highs[tile_rows];
  low.store_unaligned(lows);
  high.store_unaligned(highs);
  include(lows, highs, tile_rows);
#else
  include(scales, scales, blocks * tile_rows);
#endif
  return {static_cast<std::uint8_t>(lowest), static_cast<std::uint8_t>(highest)};
}

/// detail::range_of; for whole tiles in registers, where the block with the smallest byte nearly always has a nonzero
/// weight.
[[nodiscard]] inline scale_range tile_range(const std::uint8_t* codes, const std::uint8_t* scales, std::int64_t blocks,
                                            int rows) noexcept {
#if defined(__SSE2__) || defined(__aarch64__)
  if (rows == tile_rows) {
    const scale_range range = all_scales_range(scales, blocks);
    for (std::int64_t i = 0; i < blocks * tile_rows; ++i)
      if (scales[i] == range.low &&
          !mxfp4::detail::row_is_zero(codes + i / tile_rows * tile_block_bytes, static_cast<int>(i % tile_rows)))
        return range;
  }
#endif
  return mxfp4::detail::range_of(codes, scales, blocks, rows);
}

/// w into `packed` from row `first` on, as check_rows allows it; a task packs a few tiles.
template <class Byte, block_layout Layout>
void pack_tiles(const basic_mx_view<Byte, Layout>& w, std::int64_t first, packed_matrix& packed,
                executor_ref executor) {
  constexpr std::int64_t tiles_per_task = 8;
  const std::int64_t tiles = mxfp4::detail::ceil_div(w.rows, tile_rows);
  const auto task = [&](std::size_t i) {
    const std::int64_t begin = static_cast<std::int64_t>(i) * tiles_per_task;
    for (std::int64_t t = begin; t < begin + tiles_per_task && t < tiles; ++t) {
      const std::int64_t to = first / tile_rows + t;
      gather_tile<8>(w, t * tile_rows, 0, w.blocks(), packed.codes(to), packed.scales(to));
      packed.set_range(to, tile_range(packed.codes(to), packed.scales(to), w.blocks(), packed.rows_in(to)));
    }
  };
  executor.run(static_cast<std::size_t>(mxfp4::detail::ceil_div(tiles, tiles_per_task)), task);
}

}  // namespace MXFP4_ISA_NS
}  // namespace kernel

inline namespace MXFP4_ISA_NS {

/// Weights of any layout -> tile16x32_v1, without loss: unpack() gives back every byte.
/// @param w   N x K, any N.
/// @return    the packed matrix; errc::out_of_memory, or what check(w) finds.
/// The same bytes for any executor and on every ISA.
template <class Byte, block_layout Layout>
[[nodiscard]] result<packed_matrix> pack(const basic_mx_view<Byte, Layout>& w, const run_options& options = {}) {
  if (const status s = check(w, "w"); !s.ok()) return s;
  result<packed_matrix> made = packed_matrix::uninitialized(w.rows, w.cols);
  if (!made) return made;
  packed_matrix packed = *std::move(made);
  if (w.rows > 0 && w.cols > 0) kernel::pack_tiles(w, 0, packed, options.executor);
  return result<packed_matrix>(std::move(packed));
}

/// Some rows of a matrix, where it is not in memory as a whole: what pack() does with them, the others stay as they
/// are. Different rows may be packed by different threads at once.
/// @param w       a multiple of 16 rows, or those up to the last one; no overlap with `packed`.
/// @param first   where they begin, a multiple of 16.
/// @param packed  packed_matrix::uninitialized(rows, cols): all its rows must be packed before it is used.
/// @return        ok, or what is wrong with the arguments; nothing is written then.
template <class Byte, block_layout Layout>
status pack_rows(const basic_mx_view<Byte, Layout>& w, std::int64_t first, packed_matrix& packed,
                 const run_options& options = {}) {
  if (const status s = check(w, "w"); !s.ok()) return s;
  if (const status s = detail::check_rows(w.rows, w.cols, first, packed); !s.ok()) return s;
  const detail::byte_range own = detail::bytes_of(packed);
  if (detail::overlap(detail::codes_of(w), own) || detail::overlap(detail::scales_of(w), own))
    return {errc::overlap, "w"};
  if (w.rows > 0 && w.cols > 0) kernel::pack_tiles(w, first, packed, options.executor);
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
