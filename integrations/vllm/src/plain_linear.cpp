// integrations/vllm/src/plain_linear.cpp -- see plain_linear.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "plain_linear.hpp"

#include <algorithm>
#include <array>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mxfp4::vllm {

namespace {

constexpr std::int64_t tile_words = 8;                          // of a column: 16 rows
constexpr std::int64_t group_tiles = 4, group_rows = 64;        // what a task multiplies
[[maybe_unused]] constexpr std::int64_t most_tokens = 6;        // that are multiplied at once
[[maybe_unused]] constexpr std::int64_t columns_at_once = 512;  // of a group: 64 KiB of weights, 12 KiB of tokens

#if defined(__x86_64__)

/// Adds to (or begins) the sums of `Tokens` tokens and of 16 rows in each of `Tiles` tiles.
/// @param w     the first of the columns in the first tile; step: words from a tile to the next.
/// @param x     [column][token]
/// @param sums  [token][row]; stride: from a token to the next.
template <int Tokens, int Tiles>
[[gnu::target("avx2,fma")]] void multiply(const std::uint32_t* w, std::int64_t step, const float* x,
                                          std::int64_t columns, float* sums, std::int64_t stride, bool add) noexcept {
  __m256 sum[std::size_t{Tokens}][std::size_t{2 * Tiles}];
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 8
    for (int v = 0; v < 2 * Tiles; ++v)
      sum[t][v] = add ? _mm256_loadu_ps(sums + t * stride + 8 * v) : _mm256_setzero_ps();
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
  for (std::int64_t k = 0; k < columns; ++k) {
    __m256 weights[std::size_t{2 * Tiles}];
#pragma GCC unroll 8
    for (int v = 0; v < Tiles; ++v) {
      const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + v * step + k * tile_words));
      weights[2 * v] = _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
      weights[2 * v + 1] = _mm256_castsi256_ps(_mm256_and_si256(words, upper));
    }
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) {
      const __m256 token = _mm256_broadcast_ss(x + k * Tokens + t);
#pragma GCC unroll 8
      for (int v = 0; v < 2 * Tiles; ++v) sum[t][v] = _mm256_fmadd_ps(token, weights[v], sum[t][v]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 8
    for (int v = 0; v < 2 * Tiles; ++v) _mm256_storeu_ps(sums + t * stride + 8 * v, sum[t][v]);
}

/// The same for a group of tiles: as many at a time as there are registers for sums.
template <int Tokens>
void multiply_group(const std::uint32_t* w, std::int64_t step, const float* x, std::int64_t columns, float* sums,
                    std::int64_t stride, bool add) noexcept {
  constexpr int tiles = Tokens == 1 ? 4 : Tokens <= 3 ? 2 : 1;
  for (std::int64_t t = 0; t < group_tiles; t += tiles)
    multiply<Tokens, tiles>(w + t * step, step, x, columns, sums + 16 * t, stride, add);
}

using group_product = void (*)(const std::uint32_t*, std::int64_t, const float*, std::int64_t, float*, std::int64_t,
                               bool) noexcept;
constexpr std::array<group_product, most_tokens> products = {&multiply_group<1>, &multiply_group<2>,
                                                             &multiply_group<3>, &multiply_group<4>,
                                                             &multiply_group<5>, &multiply_group<6>};

#endif

}  // namespace

bool plain_linear::suits() noexcept {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && !__builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

plain_linear plain_linear::create(const void* weights, std::int64_t rows, std::int64_t cols, const process_team& team) {
  plain_linear made;
  made.rows_ = rows;
  made.cols_ = cols;
  const std::int64_t groups = (rows + group_rows - 1) / group_rows;
  made.packed_.resize(static_cast<std::size_t>(groups * group_tiles * tile_words * cols));
  const auto* const from = static_cast<const std::uint16_t*>(weights);
  const auto pack_tile = [&](std::size_t tile) noexcept {
    std::uint32_t* const to = made.packed_.data() + static_cast<std::int64_t>(tile) * tile_words * cols;
    for (std::int64_t j = 0; j < tile_words; ++j) {
      const std::int64_t low = static_cast<std::int64_t>(tile) * 2 * tile_words + j, high = low + tile_words;
      for (std::int64_t k = 0; k < cols; ++k)
        to[k * tile_words + j] = (low < rows ? std::uint32_t{from[low * cols + k]} : 0u) |
                                 (high < rows ? std::uint32_t{from[high * cols + k]} << 16 : 0u);
    }
  };
  team.run(static_cast<std::size_t>(groups * group_tiles), pack_tile);
  return made;
}

void plain_linear::run([[maybe_unused]] const rows_in& x, [[maybe_unused]] const float* bias,
                       [[maybe_unused]] const rows_out& y, [[maybe_unused]] workshop& shop) const {
#if defined(__x86_64__)
  const std::lock_guard lock(shop.mutex);
  const std::int64_t n = rows_, k = cols_, groups = (n + group_rows - 1) / group_rows, stride = groups * group_rows;
  const std::int64_t most = rows_within(shop, k + stride), runs = (x.rows + most - 1) / most;
  for (std::int64_t r = 0; r < runs; ++r) {
    const std::int64_t first = x.rows * r / runs, tokens = x.rows * (r + 1) / runs - first;
    const std::int64_t tiles = (tokens + most_tokens - 1) / most_tokens;
    const std::int64_t at_once = tiles == 1 ? k : columns_at_once;
    float* const sums = grown(shop.results, tokens * stride);
    float* const panel = grown(shop.panel, tokens * k);  // [columns at once][tile of tokens][column][token]
    const auto begin = [&](std::int64_t tile) { return tokens * tile / tiles; };
    const auto widen = [&](std::size_t index) noexcept {
      const auto tile = static_cast<std::int64_t>(index);
      const std::int64_t top = begin(tile), count = begin(tile + 1) - top;
      for (std::int64_t t = 0; t < count; ++t) {
        const auto* const from = static_cast<const std::uint16_t*>(x.data) + (first + top + t) * x.stride;
        for (std::int64_t c = 0; c < k; c += at_once) {
          const std::int64_t columns = std::min(at_once, k - c);
          float* const to = panel + tokens * c + top * columns + t;
          for (std::int64_t i = 0; i < columns; ++i) to[i * count] = decode(static_cast<bf16>(from[c + i]));
        }
      }
    };
    shop.team.run(static_cast<std::size_t>(tiles), widen);
    const auto multiply_one = [&](std::size_t group) noexcept {
      const std::uint32_t* const w = packed_.data() + static_cast<std::int64_t>(group) * group_tiles * tile_words * k;
      std::int64_t c = 0;
      do {  // once where K is 0, for the sums to be 0
        const std::int64_t columns = std::min(at_once, k - c);
        for (std::int64_t tile = 0; tile < tiles; ++tile)
          products[static_cast<std::size_t>(begin(tile + 1) - begin(tile) - 1)](
              w + c * tile_words, tile_words * k, panel + tokens * c + begin(tile) * columns, columns,
              sums + begin(tile) * stride + static_cast<std::int64_t>(group) * group_rows, stride, c > 0);
        c += at_once;
      } while (c < k);
    };
    shop.team.run(static_cast<std::size_t>(groups), multiply_one);
    const auto round_tile = [&](std::size_t index) noexcept {
      const auto tile = static_cast<std::int64_t>(index);
      for (std::int64_t t = begin(tile); t < begin(tile + 1); ++t) {
        float* const from = sums + t * stride;
        bf16* const to = static_cast<bf16*>(y.data) + (first + t) * n;
        if (bias != nullptr)
          for (std::int64_t i = 0; i < n; ++i) from[i] += bias[i];
        for (std::int64_t i = 0; i < n; ++i) to[i] = encode<bf16>(from[i]);
      }
    };
    shop.team.run(static_cast<std::size_t>(tiles), round_tile);
  }
#endif
}

}  // namespace mxfp4::vllm
