// mxfp4/kernel/quantize_fp8.hpp -- FP8 with a scale for each 128 x 128 weights -> MXFP4 or bf16.
// SPDX-License-Identifier: Apache-2.0
//
// 128 x 128 weights share a scale, so the bf16 values of the 256 FP8 codes under it (decode_scaled) are one table. The
// weights are looked up in it and encoded by the kernel for bf16. AVX-512 VBMI goes from FP8 codes to MXFP4 codes
// directly: kernel/fp8_tables.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mxfp4/kernel/fp8_tables.hpp"
#include "mxfp4/kernel/quantize.hpp"
#include "mxfp4/tensor/call_options.hpp"
#include "mxfp4/tensor/fp8.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {

inline namespace MXFP4_ISA_NS {

/// Row-major index of the first weight that is NaN or infinite, or -1.
template <class Arch>
[[nodiscard]] std::int64_t find_nonfinite_fp8(const dense_view<const e4m3>& w,
                                              const dense_view<const float>& scales) noexcept {
  const std::int64_t parts = fp8_part::count_a_band(scales.cols);
  for (std::int64_t band = 0; band < scales.rows; ++band) {
    std::int64_t found = -1;
    for (std::int64_t p = 0; p < parts; ++p) {
      const fp8_part part(w, scales, band * parts + p);
      for (std::int64_t r = part.top; r < part.bottom && (found < 0 || r * w.cols < found); ++r)
        if (const std::int64_t at = find_nonfinite<Arch>(part.row(r), part.first, part.last); at >= 0) {
          if (found < 0 || r * w.cols + at < found) found = r * w.cols + at;
          break;
        }
    }
    if (found >= 0) return found;
  }
  return -1;
}

/// What is wrong with the arguments of quantize_fp8: asked once for all recipes.
template <class Arch, block_layout Layout>
[[nodiscard]] status check_quantize_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                                        const mx_view<Layout>& out, on_nonfinite policy) noexcept {
  if (const status s = mxfp4::detail::check_fp8(w, scales, out); !s.ok()) return s;
  if (policy == on_nonfinite::refuse && w.cols > 0)
    if (const std::int64_t at = find_nonfinite_fp8<Arch>(w, scales); at >= 0) return {errc::nonfinite, "w", at};
  return {};
}

/// quantize_fp8 with the words of a recipe for bf16.
template <class Arch, class Words, block_layout Layout>
status quantize_fp8_with(const Words& recipe, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                         const mx_view<Layout>& out, const quantize_options& options) {
  if (const status s = check_quantize_fp8<Arch>(w, scales, out, options.nonfinite); !s.ok()) return s;
  if (w.rows == 0 || w.cols == 0) return {};
  const std::int64_t parts = scales.rows * fp8_part::count_a_band(scales.cols);
  options.executor.run(static_cast<std::size_t>(parts), [&](std::size_t index) noexcept {
    const auto encode = [&](const fp8_source& from, std::int64_t r, std::int64_t first, std::int64_t last) noexcept {
      quantize_row<Arch>(recipe, from, out, r, first, last);
    };
    if constexpr (may_have_fp8_tables<Words, Arch, Layout>) {
      if (has_fp8_tables(recipe)) {
        quantize_fp8_by_tables<Arch>(recipe, w, scales, out, static_cast<std::int64_t>(index), encode);
        return;
      }
    }
    const fp8_part part(w, scales, static_cast<std::int64_t>(index));
    for (std::int64_t r = part.top; r < part.bottom; ++r) encode(part.row(r), r, part.first, part.last);
  });
  mxfp4::detail::fill_padding(out);
  return {};
}

/// FP8 -> MXFP4: the bytes of reference::quantize_fp8, on every architecture and for any number of tasks. A weight is
/// decode_scaled(w, scale), encoded by the bf16 recipe: the same bytes as FP8 -> BF16 -> MXFP4.
///
/// @param w       rows x cols, cols a multiple of 32, any stride.
/// @param scales  ceil(rows / 128) x ceil(cols / 128), to multiply with (`weight_scale_inv`
///                in spite of its name); any value.
/// @param out     the shape of w, any layout; must not overlap w or scales.
/// @return        ok, or what is wrong with the arguments; nothing is written then.
/// Source: the FP8 checkpoints of DeepSeek-V3 and MiniMax-M2.
template <block_recipe Recipe = recipe::ocp, class Arch = simd::native_arch, block_layout Layout>
status quantize_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales, const mx_view<Layout>& out,
                    const quantize_options& options = {}) {
  using words = mxfp4::detail::static_words<typename Recipe::template for_input<bf16>, fp8_source::exact>;
  return quantize_fp8_with<Arch>(words{}, w, scales, out, options);
}

/// The same with the recipe chosen at run time; errc::unknown_recipe besides.
template <class Arch = simd::native_arch, block_layout Layout>
status quantize_fp8(recipe_id recipe, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                    const mx_view<Layout>& out, const quantize_options& options = {}) {
  return with_recipe_words<bf16, fp8_source::exact>(
      recipe, [&](const auto& words) { return quantize_fp8_with<Arch>(words, w, scales, out, options); });
}

/// FP8 -> bf16: the bits of reference::widen_fp8, on every architecture and for any number of tasks.
/// @param w  rows x cols, not only multiples of 32, any stride.  @param scales  as above.
/// @param out  the shape of w, any stride; must not overlap w or scales.
template <class Arch = simd::native_arch>
status widen_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales, const dense_view<bf16>& out,
                 const run_options& options = {}) {
  if (const status s = mxfp4::detail::check_widen_fp8(w, scales, out); !s.ok()) return s;
  if (w.rows == 0 || w.cols == 0) return {};
  const std::int64_t parts = scales.rows * fp8_part::count_a_band(scales.cols);
  options.executor.run(static_cast<std::size_t>(parts), [&](std::size_t index) noexcept {
    const fp8_part part(w, scales, static_cast<std::int64_t>(index));
    const bool ends_row = (static_cast<std::int64_t>(index) + 1) % fp8_part::count_a_band(scales.cols) == 0;
    for (std::int64_t r = part.top; r < part.bottom; ++r) {
      const fp8_source from = part.row(r);
      bf16* const to = out.row(r);
      for (std::int64_t b = part.first; b < part.last; ++b) {
        simd::word_block<Arch> block;
        from.load(b, block);
        block.store(to + b * block_size);
      }
      if (ends_row)
        for (std::int64_t c = part.last * block_size; c < w.cols; ++c)
          to[c] = decode_scaled(w.row(r)[c], scales.row(r / fp8_block)[c / fp8_block]);
    }
  });
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
