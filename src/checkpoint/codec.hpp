// src/checkpoint/codec.hpp -- what encodes and decodes here: mxfp4::dispatch where it is built, else the plain loops.
// SPDX-License-Identifier: Apache-2.0
//
// The bytes are the same. The sums of error_statistics differ within the bounds of kernel/measure_error.hpp.
#pragma once

#if defined(MXFP4_CHECKPOINT_DISPATCH)
#include "mxfp4/dispatch.hpp"
#else
#include <vector>

#include "mxfp4/reference/error_statistics.hpp"
#include "mxfp4/reference/quantize.hpp"
#endif

namespace mxfp4::checkpoint::codec {

#if defined(MXFP4_CHECKPOINT_DISPATCH)
using dispatch::dequantize, dispatch::measure_error, dispatch::quantize, dispatch::quantize_fp8,
    dispatch::quantize_fp8_measured, dispatch::widen_fp8;
#else
using mxfp4::dequantize, mxfp4::measure_error, mxfp4::quantize, mxfp4::quantize_fp8, mxfp4::widen_fp8;

/// FP8 -> MXFP4, and what it lost added to `sum`: dispatch::quantize_fp8_measured.
inline status quantize_fp8_measured(recipe_id recipe, const dense_view<const e4m3>& w,
                                    const dense_view<const float>& scales, const mx_view<>& out,
                                    error_statistics& sum) {
  if (const status s = mxfp4::quantize_fp8(recipe, w, scales, out); !s.ok()) return s;
  std::vector<bf16> widened(static_cast<std::size_t>(w.rows * w.cols));
  const dense_view<bf16> numbers{widened.data(), w.rows, w.cols, w.cols};
  if (const status s = mxfp4::widen_fp8(w, scales, numbers); !s.ok()) return s;
  return mxfp4::measure_error(numbers, out, sum);
}
#endif

}  // namespace mxfp4::checkpoint::codec
