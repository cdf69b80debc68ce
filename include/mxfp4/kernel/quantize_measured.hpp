// mxfp4/kernel/quantize_measured.hpp -- floor 7: FP8 -> MXFP4 and what was lost on the way, while a row is in the cache.
// SPDX-License-Identifier: Apache-2.0
//
//   2 KiB of a row of e4m3  -->  4 KiB of bf16 on the stack  -->  codes, scales      kernel/quantize.hpp
//                                            |                         |
//                                            +----------->-------------+---> sums    kernel/measure_error.hpp
//
// The three passes one after the other over a matrix that no cache holds take twice the time.
// Reads: floors 0-6, kernel/quantize_fp8.hpp, kernel/measure_error.hpp.  Read by: tools, dispatch.
#pragma once

#include <cstdint>

#include "mxfp4/kernel/measure_error.hpp"
#include "mxfp4/kernel/quantize_fp8.hpp"

namespace mxfp4::kernel {

inline namespace MXFP4_ISA_NS {

/// FP8 -> MXFP4: the bytes of quantize_fp8; adds to `sum` what measure_error finds between w as bf16 and them.
///
/// @param w       rows x cols, cols a multiple of 32, any stride.
/// @param scales  ceil(rows / 128) x ceil(cols / 128), to multiply with; any value.
/// @param out     the shape of w, codes and scales apart (compressed_tensors, gpt_oss, mlx); must not overlap w or scales.
/// @param sum     added to. `nonfinite` counts weights that are NaN or infinite; they are encoded as on_nonfinite::encode
///                says, and whoever refuses them throws the result away.
/// @return        ok, or what is wrong with the arguments; nothing is written then, and `sum` is untouched.
/// One task: whoever has several threads gives each of them rows from a multiple of 128 on, and adds up their sums.
/// Accuracy: measure_error's, whose counts and scales these are; squares are summed by bands of 128 rows, in those by
/// 2048 columns, in those by rows.
template <block_recipe Recipe = recipe::ocp, class Arch = simd::native_arch, block_layout Layout>
  requires std::same_as<typename Layout::order, low_first> && (Layout::rows_per_band == 1)
status quantize_fp8_measured(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                             const mx_view<Layout>& out, error_statistics& sum) {
  using resolved = typename Recipe::template for_input<bf16>;
  if (const status s = mxfp4::detail::check_fp8(w, scales, out); !s.ok()) return s;
  if (w.rows == 0 || w.cols == 0) return {};
  mxfp4::detail::lane_statistics found;
  const std::int64_t parts = scales.rows * fp8_part::count_a_band(scales.cols);
  for (std::int64_t index = 0; index < parts; ++index) {
    const fp8_part part(w, scales, index);
    const std::int64_t blocks = part.last - part.first;
    for (std::int64_t r = part.top; r < part.bottom; ++r) {
      alignas(64) bf16 row[fp8_part::most_tables * fp8_block];
      const fp8_source from = part.row(r);
      for (std::int64_t b = 0; b < blocks; ++b) {
        simd::word_block<Arch> block;
        from.load(part.first + b, block);
        block.store(row + b * block_size);
      }
      std::uint8_t* const codes = out.block_codes(r, part.first);
      std::uint8_t* const bytes = out.block_scale(r, part.first);
      quantize_row<resolved, Arch>(row_source<bf16>{row},
                                   mx_view<>{codes, bytes, 1, blocks * block_size, out.code_stride, out.scale_stride},
                                   0, 0, blocks);
      measure_blocks<Arch>(row, codes, bytes, blocks, found);
    }
  }
  found.finish(sum);
  return {};
}

}  // namespace MXFP4_ISA_NS
}  // namespace mxfp4::kernel
