// mxfp4/quantize.hpp -- whole matrices: numbers <-> MXFP4, at the speed of memory where kernels are to be had.
// SPDX-License-Identifier: Apache-2.0
//
// Start here for matrices. A view says where the bytes are and who owns them is your business; make_view checks it. W
// is rows x cols with cols a multiple of 32; a block is 32 elements of a row. Every call returns a status and writes
// nothing where that is not ok.
//
// Example:
//
//   const std::int64_t rows = 64, cols = 256;
//   std::vector<float> weights(rows * cols, 0.02f);
//   std::vector<mxfp4::bf16> back(rows * cols);
//   std::vector<std::uint8_t> codes(rows * cols / 2), scales(rows * cols / 32);
//   const auto w = mxfp4::make_dense_view(weights, rows, cols).value_or_abort();
//   const auto q = mxfp4::make_view(codes, scales, rows, cols).value_or_abort();
//   const auto decoded = mxfp4::make_dense_view(back, rows, cols).value_or_abort();
//   mxfp4::status s = mxfp4::quantize<mxfp4::recipe::compressed_tensors>(w, q);
//   if (s.ok()) s = mxfp4::dequantize(q, decoded);
//   if (!s.ok()) std::puts(mxfp4::message(s).c_str());
//
// The functions:
//
//   quantize      W -> MXFP4                         quantize<recipe::compressed_tensors>(w, out)
//   quantize_fp8  FP8 with 128 x 128 scales -> MXFP4 quantize_fp8(recipe_id::ocp, w, scales, out)
//   dequantize    MXFP4 -> float, bf16 or f16        dequantize<dialect::inf_at_255>(w, out, {.executor = pool})
//   widen_fp8     FP8 -> bf16                        measure_error, quantize_fp8_measured: what was lost
//
// A recipe or dialect is a template argument or, in front of the others, a recipe_id or dialect_id; options come last.
// Linked to mxfp4::mxfp4 these are the kernels for what the translation unit is compiled for; linked to mxfp4::format
// alone (MXFP4_KERNELS is 0 then), the plain loops of mxfp4::reference, with the same signatures and bytes.
// mxfp4::dispatch has the same functions for any CPU.
#pragma once

#include "mxfp4/core/config.hpp"
#include "mxfp4/reference/error_statistics.hpp"
#include "mxfp4/reference/quantize.hpp"
#include "mxfp4/tensor/encode_row.hpp"

#if MXFP4_KERNELS
#include "mxfp4/kernel/dequantize.hpp"
#include "mxfp4/kernel/measure_error.hpp"
#include "mxfp4/kernel/quantize.hpp"
#include "mxfp4/kernel/quantize_fp8.hpp"
#include "mxfp4/kernel/quantize_measured.hpp"
#endif

namespace mxfp4::inline MXFP4_VERSION_NS {

#if MXFP4_KERNELS
using kernel::dequantize, kernel::measure_error, kernel::quantize, kernel::quantize_fp8, kernel::quantize_fp8_measured;
using kernel::widen_fp8;
#else
using reference::dequantize, reference::measure_error, reference::quantize, reference::quantize_fp8;
using reference::quantize_fp8_measured, reference::widen_fp8;
#endif

}  // namespace mxfp4
