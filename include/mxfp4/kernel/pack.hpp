// mxfp4/kernel/pack.hpp -- floor 7: from a checkpoint's rows to the order of packed_matrix.
// SPDX-License-Identifier: Apache-2.0
//
// In half_split order (nibble.hpp) a row's block is four words of 4 bytes: word g is what line g of the tile holds of it.
// So packing is: rows to half_split, then transpose 16 x 4 words.
// Reads: packed_matrix.hpp, simd/isa.hpp.  Read by: kernel/int8.hpp, linalg_int8.hpp.
#pragma once

#include <cstdint>
#include <cstring>

#include "mxfp4/executor.hpp"
#include "mxfp4/packed_matrix.hpp"
#include "mxfp4/simd/isa.hpp"

namespace mxfp4 {
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
    using bytes = xsimd::batch<std::uint8_t, simd::register128>;
    using words = xsimd::batch<std::uint16_t, simd::register128>;
    const bytes codes = bytes::load_unaligned(in), nibble(std::uint8_t{15});
    const bytes even = codes & nibble;
    const bytes odd = xsimd::bitwise_cast<std::uint8_t>(xsimd::bitwise_cast<std::uint16_t>(codes) >> 4) & nibble;
    const words last = xsimd::bitwise_cast<std::uint16_t>(xsimd::zip_hi(even, odd)) << 4;
    const bytes all = xsimd::zip_lo(even, odd) | xsimd::bitwise_cast<std::uint8_t>(last);
    all.store_unaligned(out);
    return;
  }
#endif
  e2m1 codes[block_size]{};
  unpack_block<Order>(in, codes);
  pack_block<half_split>(codes, out);
}

/// Blocks [first, first + blocks) of the tile that starts at row `row`, into `codes` (256 bytes a block) and `scales`
/// (16 a block); rows past the end of w become padding.
template <class Byte, block_layout Layout>
void gather_tile(const basic_mx_view<Byte, Layout>& w, std::int64_t row, std::int64_t first, std::int64_t blocks,
                 std::uint8_t* codes, std::uint8_t* scales) noexcept {
  const int rows = static_cast<int>(w.rows - row < tile_rows ? w.rows - row : tile_rows);
  for (std::int64_t b = 0; b < blocks; ++b, codes += tile_block_bytes, scales += tile_rows)
    for (int r = 0; r < tile_rows; ++r) {
      std::uint8_t block[block_code_bytes]{};
      if (r < rows) to_half_split<typename Layout::order>(w.block_codes(row + r, first + b), block);
      for (int g = 0; g < tile_lines; ++g) std::memcpy(codes + mxfp4::detail::tile_offset(r, g), block + 4 * g, 4);
      scales[r] = r < rows ? *w.block_scale(row + r, first + b) : tile_padding_scale;
    }
}

/// All of w into `packed`, which was made for its shape; a task packs a few tiles.
template <class Byte, block_layout Layout>
void pack_tiles(const basic_mx_view<Byte, Layout>& w, packed_matrix& packed, executor_ref executor) {
  constexpr std::int64_t tiles_per_task = 8;
  const auto task = [&](std::size_t i) {
    const std::int64_t first = static_cast<std::int64_t>(i) * tiles_per_task;
    for (std::int64_t t = first; t < first + tiles_per_task && t < packed.tiles(); ++t) {
      gather_tile(w, t * tile_rows, 0, w.blocks(), packed.codes(t), packed.scales(t));
      packed.update_range(t);
    }
  };
  executor.run(static_cast<std::size_t>(mxfp4::detail::bands(packed.tiles(), tiles_per_task)), task);
}

}  // namespace MXFP4_ISA_NS
}  // namespace kernel

inline namespace MXFP4_ISA_NS {

/// Weights of any layout -> tile16x32_v1, without loss: unpack() gives back every byte.
/// @param w   N x K, any N.
/// @return    the packed matrix; errc::out_of_memory, or what check(w) finds.
/// The same bytes for any executor and on every ISA.
template <class Byte, block_layout Layout>
[[nodiscard]] result<packed_matrix> pack(basic_mx_view<Byte, Layout> w, executor_ref executor = {}) {
  if (const status s = check(w, "w"); !s.ok()) return s;
  result<packed_matrix> made = packed_matrix::uninitialized(w.rows, w.cols);
  if (!made) return made;
  packed_matrix packed = *std::move(made);
  kernel::pack_tiles(w, packed, executor);
  return result<packed_matrix>(std::move(packed));
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4
