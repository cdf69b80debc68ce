// mxfp4/checkpoint/dequantize.hpp -- an MXFP4 checkpoint as BF16.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mxfp4/checkpoint/writer.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

struct dequantize_options {
  std::uint64_t max_shard_bytes = default_max_shard_bytes;
  /// Also, before, of the bytes that are compared with their hashes.
  progress_function progress = [](std::uint64_t, std::uint64_t) {};
  io::stop_function stop = {};
  io::existing_file existing = io::existing_file::refuse;  ///< what becomes of an output that is there
};

struct dequantize_directory_report {
  std::int64_t dequantized = 0;  ///< MXFP4 tensors, a stack counts one
  std::int64_t widened = 0;      ///< F8_E4M3 tensors with block scales
  std::int64_t copied = 0;
  std::int64_t nan_blocks = 0;        ///< with scale byte 255: 32 NaN each
  std::vector<std::string> warnings;  ///< what a user should know of the result
  std::uint64_t bytes_before = 0;
  output_size after;
};

/// MXFP4 pairs X_packed, X_scale become X in BF16, which holds every weight exactly; F8_E4M3 with block scales,
/// X_scale_inv or X_scale F32 [ceil(rows / 128), ceil(cols / 128)], becomes BF16 as bf16(w * scale); everything else is
/// copied. In config.json quantization_config goes and the type of the weights is bfloat16. A result of mxfp4 quantize
/// is compared with the hashes in its report first, which reads it once more.
/// @param output  a directory that does not exist or is empty.
/// An error as convert_checkpoint has; for weights in another format, which it names; for a quantization_config that
/// nothing here is true of; for a checkpoint in gpt-oss' form, whose BF16 tensors are transposed: convert it to
/// compressed-tensors first; and for F8_E4M3 without such scales.
[[nodiscard]] io::file_result<dequantize_directory_report> dequantize_directory(const std::string& input,
                                                                                const std::string& output,
                                                                                const dequantize_options& options);

}  // namespace mxfp4::checkpoint
