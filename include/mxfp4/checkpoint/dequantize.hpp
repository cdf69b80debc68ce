// mxfp4/checkpoint/dequantize.hpp -- an MXFP4 checkpoint as BF16.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mxfp4/checkpoint/writer.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// How dequantize_directory is run.
struct dequantize_options {
  std::uint64_t max_shard_bytes = default_max_shard_bytes;  ///< of tensors; a larger one has a shard of its own
  /// Also, before, of the bytes that are compared with their hashes.
  progress_function progress = [](std::uint64_t, std::uint64_t) {};
  io::stop_function stop = {};                             ///< asked before each piece that is written
  io::existing_file existing = io::existing_file::refuse;  ///< what becomes of an output that is there
};

/// What became of the tensors.
struct dequantize_directory_report {
  std::int64_t dequantized = 0;       ///< MXFP4 tensors, a stack counts one
  std::int64_t widened = 0;           ///< F8_E4M3 tensors with scales
  std::int64_t integer = 0;           ///< symmetric INT4 and INT8 of compressed-tensors, Q8_0 of GGUF
  std::int64_t nvfp4 = 0;             ///< NVFP4 tensors
  std::int64_t copied = 0;            ///< as they were
  std::int64_t nan_blocks = 0;        ///< with scale byte 255: 32 NaN each
  std::vector<std::string> warnings;  ///< what a user should know of the result
  std::uint64_t bytes_before = 0;     ///< of the files with tensors
  output_size after;                  ///< what was written
};

/// MXFP4 X in any form (stored_tensor.hpp) becomes X in BF16, which holds every weight exactly; a stack of gpt-oss
/// [experts, rows, cols] becomes [experts, cols, rows], as transformers has it. Other weights of few bits become BF16,
/// rounded once from what their own programs compute: F8_E4M3 with scales for blocks, rows or all, INT4 and INT8 of
/// compressed-tensors (pack-quantized, int-quantized) without zero points, NVFP4 of compressed-tensors and ModelOpt,
/// Q8_0 of GGUF. Everything else is copied. In config.json quantization_config goes and the type of the weights is
/// bfloat16. A result of mxfp4 quantize is compared with the hashes in its report first, which reads it once more.
/// @param input   a directory or a .gguf file, as convert_checkpoint takes them. llama.cpp's names of a family that
///                convert knows become the checkpoint's again; others stay.
/// @param output  a directory that does not exist or is empty.
/// An error as convert_checkpoint has; for weights in another format, which it names; for a quantization_config that
/// nothing here is true of; and for F8_E4M3 without scales that fit.
[[nodiscard]] io::file_result<dequantize_directory_report> dequantize_directory(const std::string& input,
                                                                                const std::string& output,
                                                                                const dequantize_options& options);

}  // namespace mxfp4::checkpoint
