// mxfp4/kernel/quantize_measured.hpp -- FP8 -> MXFP4 and what was lost, while a row is in the cache.
// SPDX-License-Identifier: Apache-2.0
//
//   2 KiB of a row of e4m3  -->  4 KiB of bf16 on the stack  -->  codes, scales      kernel/quantize.hpp
//                                            |                         |
//                                            +----------->-------------+---> sums    kernel/measure_error.hpp
//
// widen_fp8, quantize and measure_error one after the other, over a matrix that no cache holds, take twice the time.
// With AVX-512 VBMI tables lead from FP8 codes to MXFP4 codes and errors (kernel/fp8_tables.hpp): 0.145 ns a weight,
// without them 0.45 (Zen 4).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "mxfp4/kernel/fp8_tables.hpp"
#include "mxfp4/kernel/measure_error.hpp"
#include "mxfp4/kernel/quantize_fp8.hpp"
#include "mxfp4/reference/error_statistics.hpp"
#include "mxfp4/tensor/call_options.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::kernel {

/// Blocks of a task of quantize_fp8_measured, or more. Sums are cut where tasks are, so a slab of `mxfp4 quantize`,
/// which is no larger, is one sum.
inline constexpr std::int64_t fp8_task_blocks = 16384;

inline namespace MXFP4_ISA_NS {

/// Blocks [first, last) of a row, at most 64: widened, encoded, measured.
template <class Arch, class Words, block_layout Layout>
void measure_fp8_row(const Words& recipe, const fp8_source& from, const mx_view<Layout>& out, std::int64_t r,
                     std::int64_t first, std::int64_t last, mxfp4::detail::lane_statistics& found) noexcept {
  alignas(64) bf16 row[fp8_part::most_tables * fp8_block];
  const std::int64_t blocks = last - first;
  for (std::int64_t b = 0; b < blocks; ++b) {
    simd::word_block<Arch> block;
    from.load(first + b, block);
    block.store(row + b * block_size);
  }
  std::uint8_t* const codes = out.block_codes(r, first);
  std::uint8_t* const bytes = out.block_scale(r, first);
  quantize_row<Arch>(recipe, row_source<bf16>{row},
                     mx_view<>{codes, bytes, 1, blocks * block_size, out.code_stride, out.scale_stride}, 0, 0, blocks);
  measure_blocks<Arch>(row, codes, bytes, blocks, found);
}

inline void add_table_sums(const simd::fp8_table_sums& sums, mxfp4::detail::lane_statistics& found) noexcept {
  for (std::size_t byte = 0; byte < sums.scales.size(); ++byte) {
    found.counts.scales[byte] += sums.scales[byte];
    found.counts.weights += sums.scales[byte] * block_size;
  }
  for (std::size_t lane = 0; lane < sums.saturated.size(); ++lane) {
    found.counts.saturated += sums.saturated[lane];
    found.counts.zeroed += sums.zeroed[lane];
  }
  found.max_error[0] = std::max(found.max_error[0], sums.max_error);
  for (std::size_t lane = 0; lane < sums.squared_error.size(); ++lane) {
    found.squared_weights[lane] += sums.squared_weights[lane];
    found.squared_error[lane] += sums.squared_error[lane];
  }
}

/// Parts [first, last) of w, as fp8_part counts them, one after the other.
template <class Arch, class Words, block_layout Layout>
void measure_fp8_parts(const Words& recipe, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                       const mx_view<Layout>& out, std::int64_t first, std::int64_t last,
                       mxfp4::detail::lane_statistics& found) noexcept {
  const auto general = [&](const fp8_source& from, std::int64_t r, std::int64_t b, std::int64_t end) noexcept {
    measure_fp8_row<Arch>(recipe, from, out, r, b, end, found);
  };
  if constexpr (may_have_fp8_tables<Words, Arch, Layout>) {
    if (has_fp8_tables(recipe)) {
      simd::fp8_table_sums sums;
      for (std::int64_t index = first; index < last; ++index)
        quantize_fp8_by_tables<Arch, true>(recipe, w, scales, out, index, sums, general);
      add_table_sums(sums, found);
      return;
    }
  }
  for (std::int64_t index = first; index < last; ++index) {
    const fp8_part part(w, scales, index);
    for (std::int64_t r = part.top; r < part.bottom; ++r) general(part.row(r), r, part.first, part.last);
  }
}

/// quantize_fp8_measured with the words of a recipe for bf16.
template <class Arch, class Words, block_layout Layout>
status quantize_fp8_measured_with(const Words& recipe, const dense_view<const e4m3>& w,
                                  const dense_view<const float>& scales, const mx_view<Layout>& out,
                                  error_statistics& sum, const quantize_options& options) {
  if (const status s = check_quantize_fp8<Arch>(w, scales, out, options.nonfinite); !s.ok()) return s;
  if (w.rows == 0 || w.cols == 0) return {};
  const std::int64_t parts = scales.rows * fp8_part::count_a_band(scales.cols);
  const std::int64_t tasks =
      std::clamp<std::int64_t>(w.rows * out.blocks() / fp8_task_blocks, 1, mxfp4::detail::most_measured_parts);
  mxfp4::detail::lane_statistics found[mxfp4::detail::most_measured_parts];
  options.executor.run(static_cast<std::size_t>(tasks), [&](std::size_t index) noexcept {
    const auto task = static_cast<std::int64_t>(index);
    measure_fp8_parts<Arch>(recipe, w, scales, out, parts * task / tasks, parts * (task + 1) / tasks, found[index]);
  });
  for (std::int64_t task = 0; task < tasks; ++task) found[task].finish(sum);
  return {};
}

/// FP8 -> MXFP4: the bytes of quantize_fp8; adds to `sum` what measure_error finds between w as bf16 and them.
///
/// @param w       rows x cols, cols a multiple of 32, any stride.
/// @param scales  ceil(rows / 128) x ceil(cols / 128), to multiply with; any value.
/// @param out     the shape of w, any layout (codes and scales apart are the fast ones); must not overlap w or scales.
/// @param sum     added to. `nonfinite` counts weights that are NaN or infinite, which on_nonfinite::encode lets pass.
/// @return        ok, or what is wrong with the arguments; nothing is written then, and `sum` is untouched.
/// Accuracy: measure_error's, whose counts and scales these are. Squares are summed by tasks: 16 at the most, each of
/// 2^19 weights or more. Within a task they are summed by bands of 128 rows, within those by 2048 columns, within those
/// by rows; with tables by four rows at a time, which changes the last bits, not the bound.
/// The same bits for any executor, and on every instruction set where simd::fuses, without tables.
template <block_recipe Recipe = recipe::ocp, class Arch = simd::native_arch, block_layout Layout>
  requires measures_in_lanes<bf16, Layout>
status quantize_fp8_measured(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                             const mx_view<Layout>& out, error_statistics& sum, const quantize_options& options = {}) {
  using words = mxfp4::detail::static_words<typename Recipe::template for_input<bf16>, fp8_source::exact>;
  return quantize_fp8_measured_with<Arch>(words{}, w, scales, out, sum, options);
}
template <block_recipe Recipe = recipe::ocp, class Arch = simd::native_arch, block_layout Layout>
status quantize_fp8_measured(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                             const mx_view<Layout>& out, error_statistics& sum, const quantize_options& options = {}) {
  return reference::quantize_fp8_measured<Recipe>(w, scales, out, sum, options);
}

/// The same with the recipe chosen at run time; errc::unknown_recipe besides.
template <class Arch = simd::native_arch, block_layout Layout>
status quantize_fp8_measured(recipe_id recipe, const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                             const mx_view<Layout>& out, error_statistics& sum, const quantize_options& options = {}) {
  if constexpr (measures_in_lanes<bf16, Layout>)
    return with_recipe_words<bf16, fp8_source::exact>(recipe, [&](const auto& words) {
      return quantize_fp8_measured_with<Arch>(words, w, scales, out, sum, options);
    });
  else return reference::quantize_fp8_measured(recipe, w, scales, out, sum, options);
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
