// mxfp4/kernel/fp8_part.hpp -- FP8 weights in parts that one task works on, with the words of their scales.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "mxfp4/simd/simd.hpp"
#include "mxfp4/tensor/fp8.hpp"
#include "mxfp4/tensor/tasks.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {

inline namespace MXFP4_ISA_NS {

/// Part of a row of FP8 weights, from block `first` on. `tables`: for each of its scales the words (upper halves of
/// floats) of the 256 codes.
struct fp8_source {
  static constexpr bool exact = true;
  static constexpr std::int64_t blocks_a_scale = fp8_block / block_size;
  const e4m3* x;
  const simd::fp8_words* tables;
  std::int64_t first;

  [[nodiscard]] MXFP4_INLINE const simd::fp8_words& words(std::int64_t b) const noexcept {
    return tables[(b - first) / blocks_a_scale];
  }
  [[nodiscard]] MXFP4_INLINE const e4m3* at(std::int64_t b) const noexcept { return x + b * block_size; }
  template <class Arch>
  MXFP4_INLINE void load(std::int64_t b, simd::word_block<Arch>& block) const noexcept {
    block.load(at(b), words(b));
  }
  void bits(std::int64_t b, std::uint32_t (&to)[block_size]) const noexcept {
    for (int i = 0; i < block_size; ++i)
      to[i] = static_cast<std::uint32_t>(words(b).word[static_cast<unsigned>(at(b)[i])]) << 16;
  }
};

/// What one task works on: rows [top, bottom) under one row of scales, and at most 2048 columns of them: 2 KiB of each
/// row, and 9 KiB of tables.
class fp8_part {
 public:
  static constexpr std::int64_t most_tables = 16;
  std::int64_t top, bottom, first, last;  ///< rows, blocks

  [[nodiscard]] static std::int64_t count_a_band(std::int64_t scale_cols) noexcept {
    return mxfp4::detail::ceil_div(scale_cols, most_tables);
  }
  fp8_part(const dense_view<const e4m3>& w, const dense_view<const float>& scales, std::int64_t index) noexcept
      : w_(w) {
    const std::int64_t band = index / count_a_band(scales.cols),
                       scale = index % count_a_band(scales.cols) * most_tables;
    const std::int64_t blocks = w.cols / block_size, tables = std::min(scales.cols - scale, most_tables);
    top = band * fp8_block;
    bottom = std::min(top + fp8_block, w.rows);
    first = scale * fp8_source::blocks_a_scale;
    last = std::min(first + tables * fp8_source::blocks_a_scale, blocks);
    for (std::int64_t t = 0; t < tables; ++t) tables_[t] = simd::make_fp8_words(scales.row(band)[scale + t]);
  }
  [[nodiscard]] fp8_source row(std::int64_t r) const noexcept { return {w_.row(r), tables_, first}; }

 private:
  dense_view<const e4m3> w_;
  simd::fp8_words tables_[most_tables];
};

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
