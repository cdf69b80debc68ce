// mxfp4/kernel/f32_gemv.hpp -- one token times W, in f32, straight from the codes.
// SPDX-License-Identifier: Apache-2.0
//
//   view     lanes run along k, in the order of simd::row_weights; x is put into that order once. A weight is looked up
//            in the table of its scale byte (simd/dequant_table.hpp), which is right for every byte. Each row has two
//            sums.
//   packed   lanes are rows. Four sums of 2v * x over a block, v a code's value, are added and multiplied by scale / 2:
//            one multiplication a block, not one a weight. Where that could leave the range of a float, the weights are
//            decoded first.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/kernel/f32_panel.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {

/// Columns that one pass takes: x is widened to at most 32 KiB on the caller's stack.
inline constexpr std::int64_t gemv_columns = 8192;
inline constexpr std::int64_t gemv_task_rows = 64;

inline namespace MXFP4_ISA_NS {
namespace detail {

/// Rows that are multiplied with one load of x: their sums, two for each row, take half of the registers.
template <class Arch>
inline constexpr int gemv_rows = lanes<Arch> / 2;

/// The element of a block that each lane of simd::row_weights has.
template <class Arch, nibble_order Order>
[[nodiscard]] consteval std::array<int, block_size> make_row_order() noexcept {
  using weights = simd::row_weights<Arch>;
  std::array<int, block_size> element{};
  for (int i = 0; i < block_size; ++i)
    for (int at = 0; at < block_size; ++at) {
      const int r = at / weights::lanes, lane = at % weights::lanes;
      if (weights::byte_of(r, lane) == Order::byte_of(i) && weights::is_high(r, lane) == Order::is_high(i))
        element[static_cast<std::size_t>(at)] = i;
    }
  return element;
}
template <class Arch, nibble_order Order>
inline constexpr std::array<int, block_size> row_order = make_row_order<Arch, Order>();

/// Blocks of x in the order of `dot_f32_rows`: that of the lanes of simd::row_weights.
template <class Arch, nibble_order Order, class X>
void widen_for_rows(X x, std::int64_t cols, float* panel) noexcept {
  for (std::int64_t k = 0; k < cols; k += block_size) {
    alignas(64) float wide[block_size];
    for (int i = 0; i < block_size; i += lanes<Arch>) simd::load_widened<Arch>(x + (k + i)).store_aligned(wide + i);
    for (int i = 0; i < block_size; ++i) panel[k + i] = wide[row_order<Arch, Order>[static_cast<std::size_t>(i)]];
  }
}

/// The products of `count` rows from `top` on with the panel are stored to y[0 .. count), or added with `add`. Rows
/// past the end of W repeat its last row and are not stored.
template <class Arch, class Table, block_layout Layout>
void dot_f32_rows(const Table& table, const const_mx_view<Layout>& w, std::int64_t top, std::int64_t count,
                  std::int64_t first, std::int64_t blocks, const float* panel, float* y, bool add) noexcept {
  using weights = simd::row_weights<Arch>;
  constexpr int R = gemv_rows<Arch>, V = lanes<Arch>;
  const std::uint8_t* codes[std::size_t{R}];
  const std::uint8_t* next[std::size_t{R}];
  const std::uint8_t* scales[std::size_t{R}];
  simd::floats<Arch> sum[std::size_t{R}][2];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    codes[r] = w.block_codes(std::min(top + r, w.rows - 1), first);
    next[r] = w.block_codes(std::min(top + r + R, w.rows - 1), first);
    scales[r] = w.block_scale(std::min(top + r, w.rows - 1), 0);
    sum[r][0] = sum[r][1] = simd::floats<Arch>(0.0f);
  }
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t code = Layout::code_offset(0, b, 0), scale = Layout::scale_offset(0, first + b, 0);
    if (b % 4 == 0)  // a cache line of codes
      for (int r = 0; r < R; ++r) simd::prefetch_soon(next[r] + code);
    const float* const x = panel + b * block_size;
    MXFP4_UNROLL
    for (int r = 0; r < R; ++r) {
      simd::floats<Arch> row[std::size_t{weights::registers}];
      weights::load(table, codes[r] + code, scales[r][scale], row);
      MXFP4_UNROLL
      for (int i = 0; i < weights::registers; ++i)
        sum[r][i % 2] = simd::fma(row[i], simd::floats<Arch>::load_aligned(x + i * V), sum[r][i % 2]);
      simd::finish_here(sum[r][0]);
      simd::finish_here(sum[r][1]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
    if (r < count) y[r] = weights::sum(sum[r][0], sum[r][1]) + (add ? y[r] : 0.0f);
}

/// x in the order of simd::block_product.
template <class Arch, class X>
void widen_for_tiles(X x, std::int64_t cols, float* panel) noexcept {
  for (std::int64_t k = 0; k < cols; k += lanes<Arch>)
    simd::block_product<Arch>::arrange(simd::load_widened<Arch>(x + k)).store_aligned(panel + k);
}

/// Adds the products of one tile to y[0 .. 16), for plain scale bytes and finite sums of a block. Tables of bytes leave
/// registers for V rows at a time; the tile stays in the first-level cache until all have been taken.
template <class Arch>
void dot_plain_tile(const std::uint8_t* codes, const std::uint8_t* scales, std::int64_t blocks, const float* x,
                    float* y) noexcept {
  constexpr int V = lanes<Arch>, parts = registers_per_tile<Arch>, together = simd::looks_up_bytes<Arch> ? 1 : parts;
  constexpr std::int64_t ahead = 8;  // blocks: 2 KiB
  using floats = simd::floats<Arch>;
  const simd::block_product<Arch> product;
  for (int first = 0; first < parts; first += together) {
    floats sum[std::size_t{together}];
    MXFP4_UNROLL
    for (int i = 0; i < together; ++i) sum[i] = floats::load_aligned(y + (first + i) * V);
    for (std::int64_t b = 0; b < blocks; ++b) {
      const std::uint8_t* const block = codes + b * tile_block_bytes;
      if (first == 0)
        for (int g = 0; g < 4; ++g) simd::prefetch_next(block + ahead * tile_block_bytes + 64 * g);
      MXFP4_UNROLL
      for (int i = 0; i < together; ++i) {
        const scale_lanes<Arch> scale(scales + b * tile_rows + (first + i) * V);
        sum[i] = simd::fma(product(block + 4 * V * (first + i), x + b * block_size), scale.half(), sum[i]);
      }
    }
    MXFP4_UNROLL
    for (int i = 0; i < together; ++i) sum[i].store_aligned(y + (first + i) * V);
  }
}

/// The same for any scale bytes. `small`: every |x| is below gemv_large, so the sum of a plain block is finite; other
/// blocks are decoded first.
template <class Arch, class Table>
[[gnu::noinline]] void dot_any_tile(const Table& table, const std::uint8_t* codes, const std::uint8_t* scales,
                                    std::int64_t blocks, const float* x, bool small, float* y) noexcept {
  constexpr int V = lanes<Arch>;
  using floats = simd::floats<Arch>;
  for (std::int64_t b = 0; b < blocks; ++b, codes += tile_block_bytes, scales += tile_rows, x += block_size) {
    if (small && all_plain(scales, tile_rows)) {
      dot_plain_tile<Arch>(codes, scales, 1, x, y);
      continue;
    }
    const simd::block_product<Arch> product;
    alignas(64) float panel[block_size * tile_rows];
    decode_f32_tile<Arch, half_split>(table, codes, scales, panel);
    for (int row = 0; row < tile_rows; row += V) {
      floats sum = floats::load_aligned(y + row);
      const scale_lanes<Arch> scale(scales + row);
      if (small && scale.plain()) {
        sum = simd::fma(product(codes + 4 * row, x), scale.half(), sum);
      } else {
        for (int k = 0; k < block_size; ++k)
          sum = simd::fma(floats::load_aligned(panel + tile_rows * k + row), floats(x[product.place(k)]), sum);
      }
      sum.store_aligned(y + row);
    }
  }
}

template <class Arch, class Table>
void dot_f32_tile(const Table& table, const packed_view& w, std::int64_t tile, std::int64_t first, std::int64_t blocks,
                  const float* x, bool small, float* y) noexcept {
  const std::uint8_t* const codes = w.block_codes(tile, first);
  const std::uint8_t* const scales = w.block_scales(tile, first);
  if (small && all_plain(scales, blocks * tile_rows)) dot_plain_tile<Arch>(codes, scales, blocks, x, y);
  else dot_any_tile<Arch>(table, codes, scales, blocks, x, small, y);
}

/// Sums of 32 terms 2v * x with |2v| <= 12 and |x| below this stay finite.
inline constexpr std::uint32_t gemv_large = std::uint32_t{127 + 118} << 23;

[[nodiscard]] inline bool all_small(const float* x, std::int64_t count) noexcept {
  std::uint32_t large = 0;
  for (std::int64_t i = 0; i < count; ++i)
    large |= (mxfp4::detail::float_bits(x[i]) & mxfp4::detail::f32_abs_mask) >= gemv_large ? 1u : 0u;
  return large == 0;
}

/// The products of rows [top, bottom) with a panel of columns [done, done + cols): stored to y, or added with `add`.
template <class Arch, class Table, block_layout Layout>
void multiply_f32_rows(const Table& table, const const_mx_view<Layout>& w, std::int64_t top, std::int64_t bottom,
                       std::int64_t done, std::int64_t cols, const float* panel, float* y, bool add) noexcept {
  for (std::int64_t r = top; r < bottom; r += gemv_rows<Arch>)
    dot_f32_rows<Arch>(table, w, r, bottom - r, done / block_size, cols / block_size, panel, y + r, add);
}

/// The same for packed weights; `top` is the first row of a tile.
template <class Arch, class Table>
void multiply_f32_rows(const Table& table, const packed_view& w, std::int64_t top, std::int64_t bottom,
                       std::int64_t done, std::int64_t cols, const float* panel, bool small, float* y,
                       bool add) noexcept {
  for (std::int64_t r = top; r < bottom; r += tile_rows) {
    const std::int64_t count = std::min<std::int64_t>(tile_rows, bottom - r);
    alignas(64) float tile[tile_rows] = {};
    if (add) std::copy_n(y + r, count, tile);
    dot_f32_tile<Arch>(table, w, r / tile_rows, done / block_size, cols / block_size, panel, small, tile);
    std::copy_n(tile, count, y + r);
  }
}

}  // namespace detail

/// y = W x or y += W x; x has one row (with_row). The caller has checked the arguments.
template <class Arch, class Table, block_layout Layout, class X>
void gemv_f32(const Table& table, const const_mx_view<Layout>& w, const X& x, float* y, bool accumulate,
              executor_ref executor) {
  alignas(64) float panel[gemv_columns];
  detail::for_each_pass(w.cols, gemv_columns, accumulate, [&](std::int64_t done, std::int64_t cols, bool add) {
    with_row(x, 0, [&](const auto row) noexcept {
      detail::widen_for_rows<Arch, typename Layout::order>(row + done, cols, panel);
    });
    executor.run(detail::task_count(w.rows, gemv_task_rows), [&](std::size_t task) noexcept {
      const std::int64_t top = static_cast<std::int64_t>(task) * gemv_task_rows;
      detail::multiply_f32_rows<Arch>(table, w, top, std::min(top + gemv_task_rows, w.rows), done, cols, panel, y, add);
    });
  });
}

/// The same for packed weights.
template <class Arch, class Table, class X>
void gemv_f32(const Table& table, const packed_view& w, const X& x, float* y, bool accumulate, executor_ref executor) {
  alignas(64) float panel[gemv_columns];
  detail::for_each_pass(w.cols(), gemv_columns, accumulate, [&](std::int64_t done, std::int64_t cols, bool add) {
    with_row(x, 0, [&](const auto row) noexcept { detail::widen_for_tiles<Arch>(row + done, cols, panel); });
    const bool small = detail::all_small(panel, cols);
    executor.run(detail::task_count(w.rows, gemv_task_rows), [&](std::size_t task) noexcept {
      const std::int64_t top = static_cast<std::int64_t>(task) * gemv_task_rows;
      detail::multiply_f32_rows<Arch>(table, w, top, std::min(top + gemv_task_rows, w.rows), done, cols, panel, small,
                                      y, add);
    });
  });
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
