// mxfp4/kernel/f32_gemv.hpp -- one token times W, in f32, straight from the codes.
// SPDX-License-Identifier: Apache-2.0
//
//   view     lanes run along k: the low nibbles of a block's 16 bytes, then the high nibbles; x is put into that order
//            once. A weight is looked up in the table of its scale byte (simd/dequant_table.hpp), which is right for
//            every byte. Each row has two sums.
//   packed   lanes are rows. Four sums of 2v * x over a block, v a code's value, are added and multiplied by scale / 2:
//            one multiplication a block, not one a weight. Where that could leave the range of a float, the weights are
//            decoded first.
#pragma once

#include <algorithm>
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

/// A block of x in the order of `dot_f32_rows`: first the elements of low nibbles, then those of high ones.
template <class Arch, nibble_order Order, class X>
void widen_for_rows(X x, std::int64_t cols, float* panel) noexcept {
  for (std::int64_t k = 0; k < cols; k += block_size) {
    alignas(64) float wide[block_size];
    for (int i = 0; i < block_size; i += lanes<Arch>) simd::load_widened<Arch>(x + (k + i)).store_aligned(wide + i);
    for (int i = 0; i < block_size; ++i)
      panel[k + (Order::is_high(i) ? block_code_bytes : 0) + Order::byte_of(i)] = wide[i];
  }
}

/// The products of `count` rows from `top` on with the panel are stored to y[0 .. count), or added with `add`. Rows
/// past the end of W repeat its last row and are not stored.
template <class Arch, decode_dialect Dialect, block_layout Layout>
void dot_f32_rows(const const_mx_view<Layout>& w, std::int64_t top, std::int64_t count, std::int64_t first,
                  std::int64_t blocks, const float* panel, float* y, bool add) noexcept {
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
#pragma GCC unroll 4
    for (int part = 0; part < block_code_bytes; part += V) {
      const auto x_low = simd::floats<Arch>::load_aligned(panel + b * block_size + part);
      const auto x_high = simd::floats<Arch>::load_aligned(panel + b * block_size + block_code_bytes + part);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const simd::table16<Arch> values(simd::decode_rows<float, Dialect>[scales[r][scale]].value);
        const simd::words<Arch> bytes = simd::detail::load_words<Arch>(codes[r] + code + part);
        sum[r][0] = simd::fma(values[bytes], x_low, sum[r][0]);
        sum[r][1] = simd::fma(values[bytes >> 4], x_high, sum[r][1]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
    if (r < count) y[r] = simd::reduce_add(sum[r][0] + sum[r][1]) + (add ? y[r] : 0.0f);
}

/// Adds the products of one tile to y[0 .. 16). `small`: every |x| is below gemv_large, so the sum of a block is
/// finite.
template <class Arch, decode_dialect Dialect>
void dot_f32_tile(const packed_view& w, std::int64_t tile, std::int64_t first, std::int64_t blocks, const float* x,
                  bool small, float* y) noexcept {
  constexpr int V = lanes<Arch>, parts = registers_per_tile<Arch>;
  constexpr std::int64_t ahead = 8;  // blocks: 2 KiB
  using floats = simd::floats<Arch>;
  const simd::table16<Arch> values(doubled_values);
  const std::uint8_t* codes = w.block_codes(tile, first);
  const std::uint8_t* scales = w.block_scales(tile, first);
  floats sum[std::size_t{parts}];
#pragma GCC unroll 4
  for (int part = 0; part < parts; ++part) sum[part] = floats::load_aligned(y + part * V);
  for (std::int64_t b = 0; b < blocks; ++b, codes += tile_block_bytes, scales += tile_rows, x += block_size) {
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) simd::prefetch_next(codes + ahead * tile_block_bytes + 64 * g);
#pragma GCC unroll 4
    for (int part = 0; part < parts; ++part) {
      const scale_lanes<Arch> scale(scales + part * V);
      if (!small || !scale.plain()) [[unlikely]] {
        alignas(64) float panel[block_size * tile_rows];
        decode_f32_tile<Arch, half_split, Dialect>(codes, scales, panel);
        for (int k = 0; k < block_size; ++k)
          sum[part] = simd::fma(floats::load_aligned(panel + tile_rows * k + part * V), floats(x[k]), sum[part]);
        continue;
      }
      floats chain[4];
#pragma GCC unroll 4
      for (int g = 0; g < 4; ++g) {
        const simd::words<Arch> line = simd::load_lines<Arch>(codes + 64 * g + 4 * V * part);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const floats low = values[line >> (8 * i)], high = values[line >> (8 * i + 4)];
          const floats x_low(x[4 * g + i]), x_high(x[16 + 4 * g + i]);
          chain[i] = g == 0 ? low * x_low : simd::fma(low, x_low, chain[i]);
          chain[i] = simd::fma(high, x_high, chain[i]);
        }
      }
      sum[part] = simd::fma((chain[0] + chain[1]) + (chain[2] + chain[3]), scale.half(), sum[part]);
    }
  }
#pragma GCC unroll 4
  for (int part = 0; part < parts; ++part) sum[part].store_aligned(y + part * V);
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
template <class Arch, decode_dialect Dialect, block_layout Layout>
void multiply_f32_rows(const const_mx_view<Layout>& w, std::int64_t top, std::int64_t bottom, std::int64_t done,
                       std::int64_t cols, const float* panel, float* y, bool add) noexcept {
  for (std::int64_t r = top; r < bottom; r += gemv_rows<Arch>)
    dot_f32_rows<Arch, Dialect>(w, r, bottom - r, done / block_size, cols / block_size, panel, y + r, add);
}

/// The same for packed weights; `top` is the first row of a tile.
template <class Arch, decode_dialect Dialect>
void multiply_f32_rows(const packed_view& w, std::int64_t top, std::int64_t bottom, std::int64_t done,
                       std::int64_t cols, const float* panel, bool small, float* y, bool add) noexcept {
  for (std::int64_t r = top; r < bottom; r += tile_rows) {
    const std::int64_t count = std::min<std::int64_t>(tile_rows, bottom - r);
    alignas(64) float tile[tile_rows] = {};
    if (add) std::copy_n(y + r, count, tile);
    dot_f32_tile<Arch, Dialect>(w, r / tile_rows, done / block_size, cols / block_size, panel, small, tile);
    std::copy_n(tile, count, y + r);
  }
}

}  // namespace detail

/// y = W x or y += W x; x is a pointer or an mxfp8_row. The caller has checked the arguments.
template <class Arch, decode_dialect Dialect, block_layout Layout, class X>
void gemv_f32(const const_mx_view<Layout>& w, X x, float* y, bool accumulate, executor_ref executor) {
  alignas(64) float panel[gemv_columns];
  detail::for_each_pass(w.cols, gemv_columns, accumulate, [&](std::int64_t done, std::int64_t cols, bool add) {
    detail::widen_for_rows<Arch, typename Layout::order>(x + done, cols, panel);
    executor.run(detail::task_count(w.rows, gemv_task_rows), [&](std::size_t task) noexcept {
      const std::int64_t top = static_cast<std::int64_t>(task) * gemv_task_rows;
      detail::multiply_f32_rows<Arch, Dialect>(w, top, std::min(top + gemv_task_rows, w.rows), done, cols, panel, y,
                                               add);
    });
  });
}

/// The same for packed weights.
template <class Arch, decode_dialect Dialect, class X>
void gemv_f32(const packed_view& w, X x, float* y, bool accumulate, executor_ref executor) {
  alignas(64) float panel[gemv_columns];
  detail::for_each_pass(w.cols(), gemv_columns, accumulate, [&](std::int64_t done, std::int64_t cols, bool add) {
    for (std::int64_t k = 0; k < cols; k += detail::lanes<Arch>)
      simd::load_widened<Arch>(x + (done + k)).store_aligned(panel + k);
    const bool small = detail::all_small(panel, cols);
    executor.run(detail::task_count(w.rows, gemv_task_rows), [&](std::size_t task) noexcept {
      const std::int64_t top = static_cast<std::int64_t>(task) * gemv_task_rows;
      detail::multiply_f32_rows<Arch, Dialect>(w, top, std::min(top + gemv_task_rows, w.rows), done, cols, panel, small,
                                               y, add);
    });
  });
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
