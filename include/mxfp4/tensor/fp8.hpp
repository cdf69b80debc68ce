// mxfp4/tensor/fp8.hpp -- FP8 weights with a scale for each 128 x 128 of them, as in DeepSeek-V3 and MiniMax-M2.
// SPDX-License-Identifier: Apache-2.0
//
//   weight (r, c) = bf16(w[r][c] * scales[r / 128][c / 128]), rounded to nearest even (decode_scaled), as vLLM and
//                   transformers read it
//
// Source: the FP8 checkpoints of DeepSeek-V3 and MiniMax-M2, where the scales are called `weight_scale_inv`.
#pragma once

#include <cstdint>

#include "mxfp4/core/float_types.hpp"
#include "mxfp4/core/status.hpp"
#include "mxfp4/tensor/view.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS {

inline constexpr std::int64_t fp8_block = 128;  ///< rows and columns of an FP8 checkpoint that share one scale

namespace detail {

/// Are there as many scales as w asks for: ceil(rows / 128) x ceil(cols / 128)?
[[nodiscard]] MXFP4_INLINE status check_fp8_scales(const dense_view<const e4m3>& w,
                                                   const dense_view<const float>& scales) noexcept {
  if (const status s = check(scales, "scales"); !s.ok()) return s;
  if (const auto n = ceil_div(w.rows, fp8_block); scales.rows != n)
    return {errc::shape_mismatch, "scales.rows", scales.rows, n};
  if (const auto n = ceil_div(w.cols, fp8_block); scales.cols != n)
    return {errc::shape_mismatch, "scales.cols", scales.cols, n};
  return {};
}

/// What is wrong with the arguments of quantize_fp8.
template <block_layout Layout>
[[nodiscard]] MXFP4_INLINE status check_fp8(const dense_view<const e4m3>& w, const dense_view<const float>& scales,
                                            const mx_view<Layout>& out) noexcept {
  if (const status s = check_same_shape(w, "w", out); !s.ok()) return s;
  if (const status s = check_fp8_scales(w, scales); !s.ok()) return s;
  if (overlap(out, w) || overlap(out, scales) || overlap_itself(out)) return {errc::overlap, "out"};
  return {};
}

/// What is wrong with the arguments of widen_fp8.
[[nodiscard]] MXFP4_INLINE status check_widen_fp8(const dense_view<const e4m3>& w,
                                                  const dense_view<const float>& scales,
                                                  const dense_view<bf16>& out) noexcept {
  if (const status s = check_same_shape(w, "w", out); !s.ok()) return s;
  if (const status s = check_fp8_scales(w, scales); !s.ok()) return s;
  if (overlap(data_of(w), data_of(out)) || overlap(data_of(scales), data_of(out))) return {errc::overlap, "out"};
  return {};
}

}  // namespace detail

}  // namespace mxfp4
