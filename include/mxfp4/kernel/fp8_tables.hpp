// mxfp4/kernel/fp8_tables.hpp -- FP8 -> MXFP4 by tables, four rows of 128 weights at a time (AVX-512 VBMI).
// SPDX-License-Identifier: Apache-2.0
//
// The tables of an FP8 scale (simd/fp8_table.hpp) serve 128 x 128 weights. What they do not cover goes block by block,
// as on every other architecture: scales that are negative, NaN or at an end of the range, weights that are NaN, blocks
// whose scale would be too small, the last rows and columns.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>

#include "mxfp4/kernel/fp8_part.hpp"
#include "mxfp4/kernel/quantize.hpp"
#include "mxfp4/simd/simd.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {

inline namespace MXFP4_ISA_NS {

/// Are there tables on an architecture, for codes and scales apart, that a recipe may have?
template <class Words, class Arch, class Layout>
inline constexpr bool may_have_fp8_tables =
    simd::has_avx512vbmi<Arch> && Words::may_take_words && std::same_as<typename Layout::order, low_first> &&
    Layout::rows_per_band == 1 && !Layout::interleaved;

/// Has this recipe tables?
template <class Words>
[[nodiscard]] MXFP4_INLINE constexpr bool has_fp8_tables(const Words& recipe) noexcept {
  return recipe.takes_words() && recipe.place().first <= recipe.place().last;
}

#if defined(__AVX512VBMI__) && defined(__AVX512BW__)

/// Part number `index` (as fp8_part counts them) by tables. others(source, r, first, last) is called for blocks of a
/// row that the tables do not cover.
template <class Arch, bool Measured, class Words, block_layout Layout, class Others>
void quantize_fp8_by_tables(const Words& recipe, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                            const mx_view<Layout>& out, std::int64_t index, simd::fp8_table_sums& sums,
                            Others others) noexcept {
  using namespace simd;
  const std::int64_t a_band = fp8_part::count_a_band(scales.cols), band = index / a_band;
  const std::int64_t scale = index % a_band * fp8_part::most_tables;
  const std::int64_t top = band * fp8_block, bottom = std::min(top + fp8_block, w.rows);
  const std::int64_t first = scale * fp8_tile_blocks, blocks = w.cols / block_size;
  const std::int64_t last = std::min(first + fp8_part::most_tables * fp8_tile_blocks, blocks);
  fp8_table tables[fp8_part::most_tables];
  const std::int64_t count = (last - first) / fp8_tile_blocks;
  for (std::int64_t t = 0; t < count; ++t)
    make_fp8_table<Arch, Measured>(recipe, scales.row(band)[scale + t], tables[t]);
  fp8_words words[fp8_part::most_tables];  // each is made when a block first needs it
  bool has_words[fp8_part::most_tables] = {};
  const auto leave = [&](std::int64_t r, std::int64_t t) noexcept {
    if (!has_words[t]) words[t] = make_fp8_words(scales.row(band)[scale + t]);
    has_words[t] = true;
    const std::int64_t b = first + t * fp8_tile_blocks;
    others(fp8_source{w.row(r), words, first}, r, b, std::min(b + fp8_tile_blocks, last));
  };
  std::int64_t r = top;
  for (; r + fp8_tile_rows <= bottom; r += fp8_tile_rows) {
    static_assert(fp8_part::most_tables * fp8_tile_blocks == 64);
    std::uint64_t by_tables = 0;  // which blocks of these rows
    for (std::int64_t t = 0; t < count; ++t) {
      const std::int64_t b = first + t * fp8_tile_blocks;
      const bool done = tables[t].regular && encode_fp8_tile<Arch, Measured>(
                                                 w.row(r) + b * block_size, w.stride, tables[t], out.block_codes(r, b),
                                                 out.code_stride, out.block_scale(r, b), out.scale_stride, sums);
      by_tables |= (done ? std::uint64_t{0xF} : 0) << t * fp8_tile_blocks;
      for (std::int64_t i = 0; !done && i < fp8_tile_rows; ++i) leave(r + i, t);
    }
    if constexpr (Measured)
      for (std::int64_t i = 0; i < fp8_tile_rows; ++i)
        count_bytes(out.block_scale(r + i, first), by_tables, sums.scales);
    if (first + count * fp8_tile_blocks < last)
      for (std::int64_t i = 0; i < fp8_tile_rows; ++i) leave(r + i, count);
  }
  for (; r < bottom; ++r)
    for (std::int64_t t = 0; first + t * fp8_tile_blocks < last; ++t) leave(r, t);
  if constexpr (Measured)
    for (std::int64_t t = 0; t < count; ++t)
      if (tables[t].regular) sums.max_error = std::max(sums.max_error, tables[t].max_error());
}

/// The same without statistics.
template <class Arch, class Words, block_layout Layout, class Others>
void quantize_fp8_by_tables(const Words& recipe, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                            const mx_view<Layout>& out, std::int64_t index, Others others) noexcept {
  simd::fp8_table_sums none;
  quantize_fp8_by_tables<Arch, false>(recipe, w, scales, out, index, none, others);
}

#endif

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
