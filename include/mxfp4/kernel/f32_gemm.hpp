// mxfp4/kernel/f32_gemm.hpp -- several tokens times W, in f32: a register tile of FMAs over panels in cache.
// SPDX-License-Identifier: Apache-2.0
//
//   for 128 tokens, for 256 columns:   activations -> panel [token tile][k][tokens]     128 KiB, on the caller's stack
//     for 48 rows (a part of a task):  weights     -> panel [16-row tile][k][16]        48 KiB, second-level cache
//       for each token tile:           Y tile += sum over k of weights[k] * activations[k]: all sums in registers
//
// An output is one chain of FMAs in ascending k that starts at 0 or, with accumulate, at Y; the number of registers
// only decides how many chains run at the same time. So the bits do not depend on M, N, the tasks or where W comes
// from.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "mxfp4/core/executor_ref.hpp"
#include "mxfp4/kernel/f32_panel.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {

inline constexpr std::int64_t gemm_columns = 256;

inline namespace MXFP4_ISA_NS {
namespace detail {

/// Register tile: `tokens` x `tiles` * 16 rows. 24 of 32 registers hold sums with AVX-512 (8 x 48), 12 of 16 with AVX2
/// (6 x 16). Other shapes were slower on AVX-512: 12 x 32 by 2 %, 14 x 32 by 5 % (Zen 4, M = 128).
template <class Arch>
struct register_tile {
  static constexpr bool wide = lanes<Arch> == 16;
  static constexpr int tiles = wide ? 3 : 1;
  static constexpr int tokens = wide ? 8 : lanes<Arch> == 8 ? 6 : 2;
  static constexpr std::int64_t panel_tokens = 128 / tokens * tokens;
  static constexpr std::int64_t task_tiles = 6;
};

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
      w[n] = floats::load_aligned(weights + (tile * gemm_columns + k) * tile_rows + part * V);
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

/// multiply_f32_panels for every number of tiles and tokens of a register tile, whole or at an edge of Y.
template <class Arch, int N, int... M>
[[nodiscard]] panel_product product_for(std::int64_t tokens, std::integer_sequence<int, M...>) noexcept {
  static constexpr panel_product products[] = {&multiply_f32_panels<Arch, N, M + 1>...};
  return products[tokens - 1];
}
template <class Arch>
[[nodiscard]] panel_product product_for(std::int64_t tiles, std::int64_t tokens) noexcept {
  using counts = std::make_integer_sequence<int, register_tile<Arch>::tokens>;
  if constexpr (register_tile<Arch>::tiles == 3) {
    if (tiles == 3) return product_for<Arch, 3>(tokens, counts{});
    if (tiles == 2) return product_for<Arch, 2>(tokens, counts{});
  }
  return product_for<Arch, 1>(tokens, counts{});
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

/// Y for tokens [top, bottom) and the rows of W's tiles [first, last): the products of columns [done, done + cols) are
/// stored, or added with `add`. `tokens`: the register tiles of these columns, `stride` floats from one to the next.
template <class Arch, class Source>
void multiply_f32_tiles(const Source& w, std::int64_t first, std::int64_t last, std::int64_t done, std::int64_t cols,
                        const float* tokens, std::int64_t stride, std::int64_t top, std::int64_t bottom,
                        const dense_view<float>& y, bool add) noexcept {
  using tile = register_tile<Arch>;
  alignas(64) float weights[tile::tiles * gemm_columns * tile_rows];
  for (std::int64_t t = first; t < last; t += tile::tiles) {
    const std::int64_t tiles = std::min<std::int64_t>(tile::tiles, last - t);
    for (std::int64_t i = 0; i < tiles; ++i)
      w.decode(t + i, done / block_size, cols / block_size, weights + i * gemm_columns * tile_rows);
    for (std::int64_t m = top; m < bottom; m += tile::tokens)
      multiply_f32_tile<Arch>(weights, tokens + (m - top) / tile::tokens * stride, cols, y, m,
                              std::min<std::int64_t>(tile::tokens, bottom - m), t * tile_rows, tiles, add);
  }
}

}  // namespace detail

/// Y = X W^T or Y += X W^T, W from an f32_view_source or an f32_packed_source, X a dense_view or an mxfp8_view. The
/// caller has checked the arguments.
template <class Arch, class Source, class X>
void gemm_f32(const Source& w, const X& x, const dense_view<float>& y, bool accumulate, executor_ref executor) {
  using tile = detail::register_tile<Arch>;
  constexpr std::int64_t task_rows = tile::task_tiles * tile_rows;
  const std::int64_t all_tiles = mxfp4::detail::ceil_div(w.rows(), tile_rows);
  alignas(64) float tokens[tile::panel_tokens * gemm_columns];
  for (std::int64_t top = 0; top < x.rows; top += tile::panel_tokens) {
    const std::int64_t bottom = std::min(top + tile::panel_tokens, x.rows);
    detail::for_each_pass(x.cols, gemm_columns, accumulate, [&](std::int64_t done, std::int64_t cols, bool add) {
      for (std::int64_t m = top; m < bottom; m += tile::tokens)
        detail::widen_tokens<Arch, tile::tokens>(x, m, std::min<std::int64_t>(tile::tokens, bottom - m), done, cols,
                                                 tokens + (m - top) * gemm_columns);
      executor.run(detail::task_count(w.rows(), task_rows), [&](std::size_t task) noexcept {
        const std::int64_t first = static_cast<std::int64_t>(task) * tile::task_tiles;
        detail::multiply_f32_tiles<Arch>(w, first, std::min(first + tile::task_tiles, all_tiles), done, cols, tokens,
                                         tile::tokens * gemm_columns, top, bottom, y, add);
      });
    });
  }
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
