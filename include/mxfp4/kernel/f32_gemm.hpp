// mxfp4/kernel/f32_gemm.hpp -- several tokens times W, in f32: a register tile of FMAs over panels in cache.
// SPDX-License-Identifier: Apache-2.0
//
//   for 128 tokens, for 256 columns:   activations -> panel [token tile][k][tokens]     128 KiB, on the caller's stack
//     for 48 rows (a part of a task):  weights     -> panel [16-row tile][k][16]        48 KiB, second-level cache
//       for each token tile:           Y tile += sum over k of weights[k] * activations[k]: all sums in registers
//
// With AVX2 512 columns and 16 rows: 264 and 32 KiB. Fewer tokens: as many more columns at a time, so that W is read in
// longer runs. A few, where registers are decoded by the byte: without a panel of weights (f32_lines.hpp).
//
// An output is one chain of FMAs in ascending k that starts at 0 or, with accumulate, at Y; the number of registers
// only decides how many chains run at the same time. So the bits do not depend on M, N, the tasks or where W comes
// from.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/kernel/f32_lines.hpp"
#include "mxfp4/kernel/f32_panel.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {

inline namespace MXFP4_ISA_NS {
namespace detail {

/// Register tile: `tokens` x `tiles` * 16 rows. 24 of 32 registers hold sums with AVX-512 (8 x 48), 12 of 16 with AVX2
/// (6 x 16). Other shapes were slower on AVX-512: 12 x 32 by 2 %, 14 x 32 by 5 % (Zen 4, M = 128). Each time that sums
/// are loaded from Y and stored to it costs about 200 cycles where Y's rows are a power of two apart (Zen 3): so AVX2,
/// whose panels are for fewer rows, has more columns; 256 are 8 % slower, 1024 3 % faster, but on 528 KiB of stack.
template <class Arch>
struct register_tile {
  static constexpr bool wide = lanes<Arch> == 16, narrow = lanes<Arch> < 8;
  static constexpr std::int64_t columns = wide || narrow ? 256 : 512;
  static constexpr int tiles = wide ? 3 : 1;
  static constexpr int tokens = wide ? 8 : narrow ? 2 : 6;
  static constexpr std::int64_t panel_tokens = (128 + tokens - 1) / tokens * tokens;
  static constexpr std::int64_t task_tiles = 6;
};

/// Tokens, divided into as few register tiles as hold them, of sizes that differ by one at the most.
template <class Arch>
struct token_tiles {
  std::int64_t first, last;

  [[nodiscard]] std::int64_t count() const noexcept {
    return mxfp4::detail::ceil_div(last - first, std::int64_t{register_tile<Arch>::tokens});
  }
  /// The first token of tile i; where i is count(), the end of the last.
  [[nodiscard]] std::int64_t begin(std::int64_t i) const noexcept { return first + (last - first) * i / count(); }
  [[nodiscard]] std::int64_t widest() const noexcept { return mxfp4::detail::ceil_div(last - first, count()); }
};

/// How many columns of `count` token tiles are multiplied before the next ones.
template <class Arch>
[[nodiscard]] MXFP4_INLINE constexpr std::int64_t columns_at_once(std::int64_t count) noexcept {
  const std::int64_t most = register_tile<Arch>::panel_tokens / register_tile<Arch>::tokens;
  return register_tile<Arch>::columns * std::max<std::int64_t>(most / count, 1);
}

/// y[m][n] = chain over k, or += with `add`, for M tokens and N tiles of 16 rows.
template <class Arch, int N, int M>
void multiply_f32_panels(const float* weights, const float* tokens, std::int64_t cols, float* y, std::int64_t stride,
                         bool add) noexcept {
  constexpr int V = lanes<Arch>, columns = N * registers_per_tile<Arch>, token_stride = register_tile<Arch>::tokens;
  using floats = simd::floats<Arch>;
  floats sum[std::size_t{M}][std::size_t{columns}];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < columns; ++n) sum[m][n] = add ? floats::load_unaligned(y + m * stride + n * V) : floats(0.0f);
  for (std::int64_t k = 0; k < cols; ++k) {
    floats w[std::size_t{columns}];
#pragma GCC unroll 4
    for (int n = 0; n < columns; ++n) {
      const int tile = n / registers_per_tile<Arch>, part = n % registers_per_tile<Arch>;
      w[n] = floats::load_aligned(weights + (tile * cols + k) * tile_rows + part * V);
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const floats x(tokens[k * token_stride + m]);
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n) sum[m][n] = simd::fma(w[n], x, sum[m][n]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < columns; ++n) sum[m][n].store_unaligned(y + m * stride + n * V);
}

using panel_product = void (*)(const float*, const float*, std::int64_t, float*, std::int64_t, bool) noexcept;

/// multiply_f32_panels for every number of tokens that N tiles are multiplied with.
template <class Arch, int N, int... M>
[[nodiscard]] panel_product product_for(std::int64_t tokens, std::integer_sequence<int, M...>) noexcept {
  static constexpr panel_product products[] = {&multiply_f32_panels<Arch, N, M + 1>...};
  return products[tokens - 1];
}
template <class Arch>
[[nodiscard]] panel_product product_for(std::int64_t tiles, std::int64_t tokens) noexcept {
  using tile = register_tile<Arch>;
  using all = std::make_integer_sequence<int, tile::tokens>;
  if constexpr (tile::wide) {
    if (tiles == 3) return product_for<Arch, 3>(tokens, all{});
    if (tiles == 2) return product_for<Arch, 2>(tokens, all{});
  }
  return product_for<Arch, 1>(tokens, all{});
}

/// `count` tokens of Y from `top` on, `tiles` tiles of W from row `left` on, from the two panels. A last tile with
/// fewer than 16 rows goes through a buffer.
template <class Arch>
void multiply_f32_tile(const float* weights, const float* tokens, std::int64_t cols, const dense_view<float>& y,
                       std::int64_t top, std::int64_t count, std::int64_t left, std::int64_t tiles, bool add) noexcept {
  constexpr int most = register_tile<Arch>::tiles * tile_rows;
  const std::int64_t width = std::min(tiles * tile_rows, y.cols - left);
  const panel_product product = product_for<Arch>(tiles, count);
  if (width == tiles * tile_rows) {
    product(weights, tokens, cols, y.row(top) + left, y.stride, add);
    return;
  }
  alignas(64) float buffer[register_tile<Arch>::tokens * most] = {};
  if (add)
    for (std::int64_t m = 0; m < count; ++m) std::copy_n(y.row(top + m) + left, width, buffer + m * most);
  product(weights, tokens, cols, buffer, most, add);
  for (std::int64_t m = 0; m < count; ++m) std::copy_n(buffer + m * most, width, y.row(top + m) + left);
}

/// Y for token tiles [top, bottom) of `all` and the rows of W's tiles [first, last): the products of columns
/// [done, done + cols) are stored, or added with `add`. `tokens`: these columns of tile `top`, `stride` floats from
/// one tile to the next.
template <class Arch, class Source>
void multiply_f32_tiles(const Source& w, std::int64_t first, std::int64_t last, std::int64_t done, std::int64_t cols,
                        const float* tokens, std::int64_t stride, const token_tiles<Arch>& all, std::int64_t top,
                        std::int64_t bottom, const dense_view<float>& y, bool add) noexcept {
  using tile = register_tile<Arch>;
  alignas(64) float weights[tile::tiles * tile::columns * tile_rows];
  for (std::int64_t t = first; t < last; t += tile::tiles) {
    const std::int64_t tiles = std::min<std::int64_t>(tile::tiles, last - t);
    for_each_pass(cols, tile::columns, add, [&](std::int64_t at, std::int64_t now, bool more) noexcept {
      for (std::int64_t i = 0; i < tiles; ++i)
        w.decode(t + i, (done + at) / block_size, now / block_size, weights + i * now * tile_rows);
      for (std::int64_t i = top; i < bottom; ++i) {
        if constexpr (!tile::wide) {  // with AVX-512 it makes no difference
          if (i + 1 < bottom)
            for (std::int64_t m = all.begin(i + 1); m < all.begin(i + 2); ++m)
              simd::prefetch_next(y.row(m) + t * tile_rows);
        }
        multiply_f32_tile<Arch>(weights, tokens + (i - top) * stride + at * tile::tokens, now, y, all.begin(i),
                                all.begin(i + 1) - all.begin(i), t * tile_rows, tiles, more);
      }
    });
  }
}

/// What lines of codes cannot give exactly (f32_lines.hpp): the same, block by block, from panels.
template <class Arch, class Source>
[[gnu::noinline]] void multiply_f32_blocks(const Source& source, const f32_lines& w, std::int64_t tiles,
                                           std::int64_t tokens, const float* x, float* sums) noexcept {
  alignas(64) float weights[block_size * tile_rows];
  for (std::int64_t b = 0; b < w.blocks; ++b)
    for (std::int64_t i = 0; i < tiles; ++i) {
      decode_f32_tile<Arch, typename Source::order>(source.table, w.codes + i * w.code_step + b * tile_block_bytes,
                                                    w.scales + i * w.scale_step + b * tile_rows, weights);
      product_for<Arch>(1, tokens)(weights, x + b * block_size * register_tile<Arch>::tokens, block_size,
                                   sums + i * tile_rows, tiles * tile_rows, true);
    }
}

/// Are tokens few enough for lines, and are there enough rows that looking at every activation pays?
template <class Arch>
[[nodiscard]] MXFP4_INLINE constexpr bool suits_lines(const token_tiles<Arch>& all, std::int64_t rows) noexcept {
  return rows >= 128 && all.count() <= line_shape<Arch>::most_token_tiles &&
         all.widest() <= line_shape<Arch>::most_tokens;
}

/// multiply_f32_tiles without panels of weights, for tokens that suits_lines() and lines_hold(). Tiles are taken a few
/// at a time; where the last ones are fewer, tiles before them are multiplied again for nothing.
template <class Arch, class Source>
void multiply_f32_by_lines(const Source& w, std::int64_t first, std::int64_t last, std::int64_t done, std::int64_t cols,
                           const float* tokens, std::int64_t stride, const token_tiles<Arch>& all,
                           const dense_view<float>& y, bool add) noexcept {
  using shape = line_shape<Arch>;
  constexpr int x_stride = register_tile<Arch>::tokens;
  static_assert(shape::most_tokens <= x_stride);
  alignas(64) float sums[shape::most_token_tiles][shape::most_tokens * shape::most_tiles * tile_rows];
  line_buffer<shape::most_tiles> buffer;
  const std::int64_t groups = all.count(), tiles = shape::tiles_for(all.widest()), sum_stride = tiles * tile_rows;
  const auto count = [&all](std::int64_t group) { return all.begin(group + 1) - all.begin(group); };
  for (std::int64_t t = first, next; t < last; t = next) {
    next = std::min(t + tiles, last);
    const std::int64_t start = std::max(next - tiles, std::int64_t{0});
    const std::int64_t skip = (t - start) * tile_rows, left = t * tile_rows;
    const std::int64_t width = std::min((next - t) * tile_rows, y.cols - left);
    for (std::int64_t i = 0; i < groups; ++i) {
      std::fill_n(sums[i], count(i) * sum_stride, 0.0f);
      if (add)
        for (std::int64_t m = 0; m < count(i); ++m)
          std::copy_n(y.row(all.begin(i) + m) + left, width, sums[i] + m * sum_stride + skip);
    }
    for (std::int64_t b = 0; b < cols / block_size; b += Source::line_blocks) {
      const std::int64_t blocks = std::min(Source::line_blocks, cols / block_size - b);
      const f32_lines lines = w.lines(start, tiles, done / block_size + b, blocks, buffer);
      bool hold = true;
      for (std::int64_t i = 0; i < tiles; ++i)
        hold &= lines_hold(lines.scales + i * lines.scale_step, blocks * tile_rows);
      for (std::int64_t i = 0; i < groups; ++i) {
        const float* const x = tokens + i * stride + b * block_size * x_stride;
        if (hold && lines_hold(sums[i], count(i) * sum_stride))
          line_product_for<Arch, typename Source::order, x_stride>(count(i))(lines, x, sums[i]);
        else multiply_f32_blocks<Arch>(w, lines, tiles, count(i), x, sums[i]);
      }
    }
    for (std::int64_t i = 0; i < groups; ++i)
      for (std::int64_t m = 0; m < count(i); ++m)
        std::copy_n(sums[i] + m * sum_stride + skip, width, y.row(all.begin(i) + m) + left);
  }
}

/// Do lines give the bits of panels for all of these tokens?
template <class Arch>
[[nodiscard]] bool lines_hold(const token_tiles<Arch>& all, const float* tokens, std::int64_t cols,
                              std::int64_t stride) noexcept {
  constexpr int x_stride = register_tile<Arch>::tokens;
  for (std::int64_t i = 0; i < all.count(); ++i)
    if (!lines_hold<x_stride>(tokens + i * stride, cols, all.begin(i + 1) - all.begin(i))) return false;
  return true;
}

}  // namespace detail

/// Y = X W^T or Y += X W^T, W from an f32_view_source or an f32_packed_source, X a dense_view or an mxfp8_view. The
/// caller has checked the arguments.
template <class Arch, class Source, class X>
void gemm_f32(const Source& w, const X& x, const dense_view<float>& y, bool accumulate, executor_ref executor) {
  using tile = detail::register_tile<Arch>;
  const std::int64_t all_tiles = mxfp4::detail::ceil_div(w.rows(), tile_rows);
  const std::int64_t passes = mxfp4::detail::ceil_div(x.rows, tile::panel_tokens);
  alignas(64) float tokens[tile::panel_tokens * tile::columns];
  for (std::int64_t pass = 0; pass < passes; ++pass) {
    const detail::token_tiles<Arch> all{x.rows * pass / passes, x.rows * (pass + 1) / passes};
    const std::int64_t count = all.count(), columns = detail::columns_at_once<Arch>(count);
    detail::for_each_pass(x.cols, columns, accumulate, [&](std::int64_t done, std::int64_t cols, bool add) {
      const std::int64_t stride = tile::tokens * cols;
      for (std::int64_t i = 0; i < count; ++i)
        detail::widen_tokens<Arch, tile::tokens>(x, all.begin(i), all.begin(i + 1) - all.begin(i), done, cols,
                                                 tokens + i * stride);
      const bool by_lines =
          Source::has_lines && detail::suits_lines(all, w.rows()) && detail::lines_hold(all, tokens, cols, stride);
      const std::int64_t task_tiles = by_lines ? 2 * detail::line_shape<Arch>::most_tiles : tile::task_tiles;
      executor.run(detail::task_count(all_tiles, task_tiles), [&](std::size_t task) noexcept {
        const std::int64_t first = static_cast<std::int64_t>(task) * task_tiles;
        const std::int64_t last = std::min(first + task_tiles, all_tiles);
        if constexpr (Source::has_lines) {
          if (by_lines) {
            detail::multiply_f32_by_lines<Arch>(w, first, last, done, cols, tokens, stride, all, y, add);
            return;
          }
        }
        detail::multiply_f32_tiles<Arch>(w, first, last, done, cols, tokens, stride, all, 0, count, y, add);
      });
    });
  }
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
