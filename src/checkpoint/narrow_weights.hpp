// src/checkpoint/narrow_weights.hpp -- weights of few bits that are not MXFP4, read as if they were BF16.
// SPDX-License-Identifier: Apache-2.0
//
//   format  codes                                    scales                                  a weight, rounded to bf16
//   FP8     X F8_E4M3                                fp8_scales.hpp                          w * scale
//   INT4    X_packed I32 [rows, cols / 8], code i    X_scale F32, BF16, F16 [rows, groups];  (code - 8) * scale, in the
//           in bits 4 (i % 8) of its word            X_shape I32 or I64: rows, cols          type of the scale
//   INT8    the same, 4 in a word                    the same                                (code - 128) * scale
//           X I8 [rows, cols]                        X_scale [1], [rows, 1], [rows, groups]  code * scale, likewise
//   NVFP4   X_packed U8 [rows, cols / 2]             X_scale F8_E4M3 [rows, cols / 16],      code * (scale / global)
//                                                    X_global_scale F32 [1]
//           X U8 [rows, cols / 2]                    X_scale F8_E4M3 [rows, cols / 16],      code * (scale * scale_2)
//                                                    X_scale_2 F32
//   Q8_0    in GGUF: 32 I8 behind an F16 d                                                   code * d
//
// INT4, INT8 and the first NVFP4 are compressed-tensors' (pack-quantized, int-quantized, nvfp4-pack-quantized), the
// second is ModelOpt's, which reads code 8 as +0. Two codes of FP4 share a byte, the low nibble first. What each
// package makes of its own files is recorded in tests/vectors/narrow. Integers with zero points or activation order are
// left, and so refused by whoever looks for them.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "checkpoint/mxfp4_weights.hpp"
#include "mxfp4/checkpoint/scale_grid.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// How many tensors were in which format.
struct narrow_count {
  std::int64_t fp8 = 0, integer = 0, nvfp4 = 0;

  [[nodiscard]] std::int64_t total() const noexcept { return fp8 + integer + nvfp4; }
};

/// Puts a tensor of type BF16, which computes its weights when it is read, in the place of every weight among the
/// others of a list, and takes its scales away. What is read through the new ones is read through the old ones.
/// @param block_size  weight_block_size of config.json.
/// @throws file_error for F8_E4M3 without scales that fit.
[[nodiscard]] narrow_count widen_narrow_weights(weight_list& list, const std::optional<scale_grid>& block_size,
                                                const std::string& where);

/// Elements [first, first + count) of a tensor of F32, BF16 or F16.
[[nodiscard]] std::vector<float> read_floats(const plain_tensor& tensor, std::int64_t first, std::int64_t count);

/// A tensor of blocks of Q8_0 as BF16. @param read  whole blocks of 34 bytes.
[[nodiscard]] plain_tensor widen_q8_0(const std::string& name, const std::vector<std::int64_t>& shape,
                                      read_function read);

}  // namespace mxfp4::checkpoint
