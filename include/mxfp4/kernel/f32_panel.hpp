// mxfp4/kernel/f32_panel.hpp -- weights and activations as panels of floats in cache.
// SPDX-License-Identifier: Apache-2.0
//
//   weights      [k][16 rows], decoded from 16 rows x 32 k of codes whose lanes are rows. tile16x32_v1 has them in that
//                order; the rows of a view are transposed in cache. The product loads 16 rows as registers
//   activations  [k][tokens of a register tile], widened to float. The product broadcasts one of them
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/mxfp8_view.hpp"
#include "mxfp4/tensor/packed_view.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {

/// Calls f with row r of activations: a pointer to its numbers, or an mxfp8_row. src/dispatch has an overload for
/// activations whose element type is known only at run time; argument-dependent lookup finds it.
template <class T, class F>
MXFP4_INLINE void with_row(const dense_view<T>& x, std::int64_t r, F f) noexcept {
  f(static_cast<const std::remove_const_t<T>*>(x.row(r)));
}
template <class Byte, class F>
MXFP4_INLINE void with_row(const basic_mxfp8_view<Byte>& x, std::int64_t r, F f) noexcept {
  f(x.row(r));
}

/// The scale bytes for which half the scale is a normal float, made by a shift, and all weights are finite: its product
/// with twice a code's value is exact. Weights under other bytes are looked up in a table of all
/// (simd/dequant_table.hpp).
inline constexpr unsigned plain_scale_min = 2, plain_scale_max = 252;

inline namespace MXFP4_ISA_NS {
namespace detail {

template <class Arch>
inline constexpr int lanes = static_cast<int>(simd::floats<Arch>::size);
template <class Arch>
inline constexpr int registers_per_tile = tile_rows / lanes<Arch>;  ///< a tile's 16 rows in registers

/// The scale bytes of a register of rows.
template <class Arch>
struct scale_lanes {
  simd::words<Arch> byte;

  MXFP4_INLINE explicit scale_lanes(const std::uint8_t* from) noexcept : byte(simd::detail::load_words<Arch>(from)) {}
  [[nodiscard]] MXFP4_INLINE bool plain() const noexcept {
    using u = simd::words<Arch>;
    return simd::all(byte - u(plain_scale_min) <= u(plain_scale_max - plain_scale_min));
  }
  /// 2^(byte - 128), the factor of simd::doubled_values; plain() only.
  [[nodiscard]] MXFP4_INLINE simd::floats<Arch> half() const noexcept {
    return simd::bitwise_cast<float>((byte - simd::words<Arch>(1u)) << 23);
  }
};

/// Are `count` scale bytes plain? Eight at a time: a byte of `x - n` borrows where x < n. `count` is a multiple of 8.
[[nodiscard]] inline bool all_plain(const std::uint8_t* scales, std::int64_t count) noexcept {
  constexpr std::uint64_t ones = 0x0101010101010101;
  const auto below = [](std::uint64_t x, std::uint64_t n) { return (x - n * ones) & ~x; };
  std::uint64_t odd = 0;
  for (std::int64_t i = 0; i < count; i += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, scales + i, sizeof eight);
    odd |= below(eight, plain_scale_min) | below(~eight, 255 - plain_scale_max);
  }
  return (odd & (ones << 7)) == 0;
}

template <nibble_order Order>
[[nodiscard]] consteval std::array<int, block_size> make_line_order() noexcept {
  std::array<int, block_size> element{};
  for (int i = 0; i < block_size; ++i)
    element[static_cast<std::size_t>(2 * Order::byte_of(i) + (Order::is_high(i) ? 1 : 0))] = i;
  return element;
}
template <nibble_order Order>
inline constexpr std::array<int, block_size> line_order = make_line_order<Order>();

/// The element of a block that nibble j (0..7, from bit 0 up) of line g holds.
template <nibble_order Order>
[[nodiscard]] MXFP4_INLINE constexpr int element_at(int g, int j) noexcept {
  return line_order<Order>[static_cast<std::size_t>(8 * g + j)];
}

/// One block of a tile under plain scale bytes -> panel[32][16].
template <class Arch, nibble_order Order>
MXFP4_INLINE void decode_plain_part(const std::uint8_t* codes, const scale_lanes<Arch>& scale, int row,
                                    float* panel) noexcept {
  const simd::line_weights<Arch> values;
  const simd::floats<Arch> factor = scale.half();
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    const simd::words<Arch> line = values.load(codes + 64 * g + 4 * row);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j)
      (values.at(line, j) * factor).store_aligned(panel + tile_rows * element_at<Order>(g, j) + row);
  }
}

/// One block of a tile -> panel[32][16], the floats of a weight table for any scale bytes. Only code 8 under plain
/// bytes is -0 in every dialect: in a sum that starts at +0 that makes no difference.
template <class Arch, nibble_order Order, class Table>
[[gnu::noinline]] void decode_f32_tile(const Table& table, const std::uint8_t* codes, const std::uint8_t* scales,
                                       float* panel) noexcept {
  for (int part = 0; part < registers_per_tile<Arch>; ++part) {
    const int row = part * lanes<Arch>;
    const scale_lanes<Arch> scale(scales + row);
    if (scale.plain()) [[likely]] {
      decode_plain_part<Arch, Order>(codes, scale, row, panel);
    } else {
      for (int r = row; r < row + lanes<Arch>; ++r) {
        const float* const entries = table.row(scales[r]).value;
        for (int g = 0; g < 4; ++g)
          for (int j = 0; j < 8; ++j)
            panel[tile_rows * element_at<Order>(g, j) + r] =
                entries[codes[64 * g + 4 * r + j / 2] >> (j % 2 * 4) & 0x0F];
      }
    }
  }
}

/// `count` blocks of a tile.
template <class Arch, nibble_order Order, class Table>
void decode_f32_tiles(const Table& table, const std::uint8_t* codes, const std::uint8_t* scales, std::int64_t count,
                      float* panel) noexcept {
  const bool plain = all_plain(scales, count * tile_rows);
  for (std::int64_t b = 0; b < count; ++b, codes += tile_block_bytes, scales += tile_rows) {
    if (plain) [[likely]] {
      for (int row = 0; row < tile_rows; row += lanes<Arch>)
        decode_plain_part<Arch, Order>(codes, scale_lanes<Arch>(scales + row), row, panel);
    } else {
      decode_f32_tile<Arch, Order>(table, codes, scales, panel);
    }
    panel += block_size * tile_rows;
  }
}

/// Codes and scales in tile order: of one tile or of several, `code_step` and `scale_step` bytes apart.
struct f32_lines {
  const std::uint8_t* codes;
  const std::uint8_t* scales;
  std::int64_t code_step, scale_step, blocks;
};

/// How many tokens are multiplied by lines (f32_lines.hpp), and with how many tiles: a sum's FMAs wait for one another,
/// and with fewer than eight sums there are not enough of them.
template <class Arch>
struct line_shape {
  static constexpr bool wide = lanes<Arch> == 16;
  static constexpr int most_tokens = wide ? 8 : 4, most_tiles = wide ? 4 : 2;
  static constexpr int most_token_tiles = 2;  ///< each of which decodes the lines again
  [[nodiscard]] MXFP4_INLINE static constexpr int tiles_for(std::int64_t tokens) noexcept {
    return tokens <= 2 ? most_tiles : most_tiles / 2;
  }
};

/// Memory for some blocks of a few tiles.
template <int Tiles>
struct line_buffer {
  static constexpr std::int64_t blocks = 8, group = 4;
  alignas(64) std::uint8_t codes[std::size_t{Tiles}][blocks * tile_block_bytes];
  alignas(64) std::uint8_t scales[std::size_t{Tiles}][blocks * tile_rows];
};

// ---- where a panel's codes come from: decode(tile, first block, blocks, panel[32 * blocks][16]) ---------------------

template <class Arch, class Table>
struct f32_packed_source {
  using order = half_split;
  static constexpr bool has_lines = simd::line_decoder<Arch>::available;
  static constexpr std::int64_t line_blocks = 32;  ///< that lines() gives at once, at the most
  packed_view w;
  Table table;

  [[nodiscard]] std::int64_t rows() const noexcept { return w.rows; }
  [[nodiscard]] std::int64_t blocks() const noexcept { return w.blocks; }

  void decode(std::int64_t tile, std::int64_t first, std::int64_t count, float* panel) const noexcept {
    const std::uint8_t* codes = w.block_codes(tile, first);
    const std::uint8_t* scales = w.block_scales(tile, first);
    decode_f32_tiles<Arch, half_split>(table, codes, scales, count, panel);
  }

  template <class Buffer>
  [[nodiscard]] f32_lines lines(std::int64_t tile, std::int64_t, std::int64_t first, std::int64_t count,
                                Buffer&) const noexcept {
    return {w.block_codes(tile, first), w.block_scales(tile, first), w.blocks * tile_block_bytes, w.blocks * tile_rows,
            count};
  }
};

template <class Arch, class Table, block_layout Layout>
struct f32_view_source {
  using order = typename Layout::order;
  static constexpr bool has_lines = simd::line_decoder<Arch>::available && simd::is_common_order<order>;
  static constexpr std::int64_t line_blocks = line_buffer<1>::blocks;
  const_mx_view<Layout> w;
  Table table;

  [[nodiscard]] std::int64_t rows() const noexcept { return w.rows; }
  [[nodiscard]] std::int64_t blocks() const noexcept { return w.blocks(); }

  /// Rows past the end repeat the last one; their products are not stored.
  void decode(std::int64_t tile, std::int64_t first, std::int64_t count, float* panel) const noexcept {
    constexpr std::int64_t most = line_buffer<1>::blocks;
    alignas(64) std::uint8_t codes[most * tile_block_bytes];
    alignas(64) std::uint8_t scales[most * tile_rows];
    for (std::int64_t b = 0; b < count; b += most) {
      const std::int64_t size = std::min(most, count - b);
      transpose(tile * tile_rows, first + b, size, codes, scales);
      decode_f32_tiles<Arch, order>(table, codes, scales, size, panel + b * block_size * tile_rows);
    }
  }

  template <class Buffer>
  [[nodiscard]] f32_lines lines(std::int64_t tile, std::int64_t tiles, std::int64_t first, std::int64_t count,
                                Buffer& buffer) const noexcept {
    for (std::int64_t i = 0; i < tiles; ++i)
      transpose((tile + i) * tile_rows, first, count, buffer.codes[i], buffer.scales[i]);
    return {buffer.codes[0], buffer.scales[0], sizeof buffer.codes[0], sizeof buffer.scales[0], count};
  }

 private:
  /// Takes four blocks of each row at a time, whose codes are one cache line: with more, the lines of 16 rows may evict
  /// one another, as a stride that is a power of two puts them into few sets of the cache.
  void transpose(std::int64_t top, std::int64_t first, std::int64_t count, std::uint8_t* codes,
                 std::uint8_t* scales) const noexcept {
    constexpr std::int64_t group = line_buffer<1>::group;
    for (std::int64_t b = 0; b < count; b += group)
      transpose_group(top, first + b, std::min(group, count - b), codes + b * tile_block_bytes, scales + b * tile_rows);
  }
  [[gnu::noinline]] void transpose_group(std::int64_t top, std::int64_t first, std::int64_t count, std::uint8_t* codes,
                                         std::uint8_t* scales) const noexcept {
    const auto clamp = [this](std::int64_t row) { return std::min(row, w.rows - 1); };
    for (int r = 0; r < tile_rows; r += 4) {
      const std::uint8_t* from[4];
      const std::uint8_t* scale[4];
      for (int i = 0; i < 4; ++i) {
        from[i] = w.block_codes(clamp(top + r + i), first);
        scale[i] = w.block_scale(clamp(top + r + i), 0);
        if constexpr (lanes<Arch> == 16)  // with AVX2 it makes no difference
          simd::prefetch_next(from[i] + Layout::code_offset(0, line_buffer<1>::group, 0));
        simd::prefetch_soon(w.block_codes(clamp(top + r + i + 2 * tile_rows), first));
      }
      for (std::int64_t b = 0; b < count; ++b) {
        const std::int64_t step = Layout::code_offset(0, b, 0);
        simd::transpose_rows(from[0] + step, from[1] + step, from[2] + step, from[3] + step,
                             codes + b * tile_block_bytes + 4 * r);
        for (int i = 0; i < 4; ++i) scales[b * tile_rows + r + i] = scale[i][Layout::scale_offset(0, first + b, 0)];
      }
    }
  }
};

/// What a product in f32 reads its weights from.
template <class Arch, class Table>
[[nodiscard]] f32_packed_source<Arch, Table> f32_source(const packed_view& w, const Table& table) noexcept {
  return {w, table};
}
template <class Arch, block_layout Layout, class Table>
[[nodiscard]] f32_view_source<Arch, Table, Layout> f32_source(const const_mx_view<Layout>& w,
                                                              const Table& table) noexcept {
  return {w, table};
}

/// Tokens `top` .. top + count of x, columns `first` .. first + cols -> panel[cols][Stride], widened.
template <class Arch, int Stride, class X>
void widen_tokens(const X& x, std::int64_t top, std::int64_t count, std::int64_t first, std::int64_t cols,
                  float* panel) noexcept {
  for (std::int64_t m = 0; m < count; ++m)
    with_row(x, top + m, [=](const auto row) noexcept {
      for (std::int64_t k = 0; k < cols; k += lanes<Arch>) {  // 32 divides cols
        alignas(64) float wide[lanes<Arch>];
        simd::load_widened<Arch>(row + (first + k)).store_aligned(wide);
        for (int i = 0; i < lanes<Arch>; ++i) panel[(k + i) * Stride + m] = wide[i];
      }
    });
}

/// Calls body(first column, number of columns, add to y?) for passes of at most `columns` until all of `cols` are done;
/// at least once, so that y is written where K is 0.
template <class F>
void for_each_pass(std::int64_t cols, std::int64_t columns, bool accumulate, F&& body) {
  std::int64_t first = 0;
  do {
    body(first, std::min(columns, cols - first), accumulate || first > 0);
    first += columns;
  } while (first < cols);
}

[[nodiscard]] constexpr std::size_t task_count(std::int64_t rows, std::int64_t rows_a_task) noexcept {
  return static_cast<std::size_t>(mxfp4::detail::ceil_div(rows, rows_a_task));
}

}  // namespace detail
}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
