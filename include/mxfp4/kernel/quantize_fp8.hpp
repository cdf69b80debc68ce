// mxfp4/kernel/quantize_fp8.hpp -- floor 7: FP8 with a scale for each 128 x 128 weights -> MXFP4.
// SPDX-License-Identifier: Apache-2.0
//
// 256 codes under one scale are a table of 256 words (decode_scaled); a tile of 128 x 128 weights looks its own up in it,
// and the rest is the kernel for bf16.
// Reads: floors 0-6, executor.hpp, kernel/quantize.hpp.  Read by: tools, dispatch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/kernel/quantize.hpp"

namespace mxfp4::kernel {

inline namespace MXFP4_ISA_NS {

/// A part of a row of FP8 weights. `tables` has the words of its scales, from the one of block `first` on.
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

/// FP8 -> MXFP4: the bytes of mxfp4::quantize_fp8, on every architecture and for any number of tasks. A weight is
/// decode_scaled(w, scale), encoded by the bf16 recipe: the same bytes as FP8 -> BF16 -> MXFP4.
///
/// @param w       rows x cols, cols a multiple of 32, any stride.
/// @param scales  ceil(rows / 128) x ceil(cols / 128), to multiply with (`weight_scale_inv` in spite of its name); any value.
/// @param out     the shape of w, any layout; must not overlap w or scales.
/// @param policy  what to do with NaN and infinity; `refuse` reads w once more before anything is written.
/// @param with    runs the tasks, which are cut by the shape alone.
/// @return        ok, or what is wrong with the arguments; nothing is written then.
/// Source: the FP8 checkpoints of DeepSeek-V3 and MiniMax-M2.
template <block_recipe Recipe = recipe::ocp, class Arch = simd::native_arch, block_layout Layout>
status quantize_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales, const mx_view<Layout>& out,
                    on_nonfinite policy = on_nonfinite::encode, executor_ref with = {}) {
  using resolved = typename Recipe::template for_input<bf16>;
  if (const status s = mxfp4::detail::check_fp8(w, scales, out); !s.ok()) return s;
  if (w.rows == 0 || w.cols == 0) return {};
  if (policy == on_nonfinite::refuse)
    if (const std::int64_t at =
            mxfp4::detail::find_nonfinite<bf16>(w.rows, w.cols, mxfp4::detail::fp8_loader{w, scales});
        at >= 0)
      return {errc::nonfinite, "w", at};
  constexpr std::int64_t tables_a_task = 16;  // 2048 columns: 2 KiB of each row, and 9 KiB of tables
  const std::int64_t parts = mxfp4::detail::bands(scales.cols, tables_a_task);
  with.run(static_cast<std::size_t>(scales.rows * parts), [&](std::size_t index) noexcept {
    const auto task = static_cast<std::int64_t>(index);
    const std::int64_t band = task / parts, first_scale = task % parts * tables_a_task;
    const std::int64_t last_scale =
        scales.cols - first_scale < tables_a_task ? scales.cols : first_scale + tables_a_task;
    simd::fp8_words tables[tables_a_task];
    for (std::int64_t t = first_scale; t < last_scale; ++t)
      tables[t - first_scale] = simd::make_fp8_words(scales.row(band)[t]);
    const std::int64_t first = first_scale * fp8_source::blocks_a_scale;
    const std::int64_t end = last_scale * fp8_source::blocks_a_scale, last = out.blocks() < end ? out.blocks() : end;
    const std::int64_t top = band * fp8_block, bottom = w.rows - top < fp8_block ? w.rows : top + fp8_block;
    for (std::int64_t r = top; r < bottom; ++r)
      quantize_row<resolved, Arch>(fp8_source{w.row(r), tables, first}, out, r, first, last);
  });
  mxfp4::detail::fill_padding(out);
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
