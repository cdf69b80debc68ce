// mxfp4/checkpoint/convert.hpp -- an MXFP4 checkpoint in another form, without loss.
// SPDX-License-Identifier: Apache-2.0
//
//   to                  MXFP4 weights become                                               quantization_config
//   compressed_tensors  a pair per expert: P.<e>.w1.weight_packed, _scale                   compressed-tensors
//   stacked             P.gate_up_proj_packed [E, 2 I, H / 2], P.down_proj_packed, _scale   compressed-tensors
//   gpt_oss             P.gate_up_proj_blocks [E, 2 I, H / 32, 16], _scales, _bias; down_   mxfp4
//   gguf                one file; P.w1.weight MXFP4 [E, I, H] by part, X.weight [rows, cols]  in mxfp4.config_json
//   block_fp8           P.<e>.w1.weight F8_E4M3, _scale_inv F32 [rows / 128, cols / 128]    fp8
//   llama_cpp           the same as gguf, with the names, settings and tokenizer that       the same
//                       llama.cpp wants: of families in its table (llama_cpp.hpp)
//
// Each but block_fp8 holds the same codes and scale bytes, so any way through them ends with the bytes it began
// with (expert_layers.hpp has the names). block_fp8 has the same values: exact_fp8.hpp. Everything else is copied byte
// for byte, but for weights of few bits that are not MXFP4: only compressed-tensors to compressed-tensors leaves them,
// block_fp8 the FP8 of 128 x 128; elsewhere they become BF16, rounded once.
// A few slabs of 4 MiB are in memory, whatever the size of tensors and files; block_fp8 takes 128 rows at a
// time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mxfp4/checkpoint/writer.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// The forms that a checkpoint can be converted to: the table above.
enum class checkpoint_form : std::uint8_t { compressed_tensors, stacked, gpt_oss, gguf, block_fp8, llama_cpp };
/// Their names on the command line, in the order of the enumerators.
inline constexpr const char* checkpoint_form_names[] = {"compressed-tensors", "stacked",  "gpt-oss", "gguf",
                                                        "block-fp8",          "llama-cpp"};

inline constexpr const char* gguf_config_key = "mxfp4.config_json";  ///< config.json, for the way back

/// How convert_checkpoint is run.
struct convert_options {
  checkpoint_form to = checkpoint_form::compressed_tensors;  ///< the form of the output
  std::uint64_t max_shard_bytes = default_max_shard_bytes;   ///< of tensors; a larger one has a shard of its own
  /// Also, before, of the bytes that are compared with their hashes.
  progress_function progress = [](std::uint64_t, std::uint64_t) {};
  io::stop_function stop = {};                             ///< asked before each piece that is written
  io::existing_file existing = io::existing_file::refuse;  ///< what becomes of an output that is there
};

/// What a conversion did.
struct convert_report {
  std::int64_t layers = 0, experts = 0;  ///< with experts; experts in all of them
  std::int64_t matrices = 0;             ///< MXFP4 matrices, an expert's three and those that are no expert's
  std::int64_t copied = 0;               ///< tensors that are not MXFP4
  std::int64_t widened = 0;              ///< of these, FP8, INT4, NVFP4 or Q8_0 that has become BF16
  std::uint64_t bytes_before = 0;        ///< of the files with tensors
  output_size after;                     ///< what was written
  std::int64_t cleaned = 0;              ///< zero blocks that gguf wrote with scale byte 255, and have 0 now
  bool config = false;                   ///< the output has a config.json, or a GGUF the text of one
  std::vector<std::string> warnings;     ///< small files that were changed, and which program does not read the result
};

/// @param input   a directory, a .safetensors file, or a .gguf file; of a split one any part, beside the others. MXFP4
///                of Quark, ModelOpt, DeepSeek-V4 and AutoRound too.
/// @param output  to gguf and llama_cpp: a file. Else a directory, or a file if it is called *.safetensors.
/// A result of mxfp4 quantize is compared with the hashes in its report first, which reads it once more.
/// An error for what cannot be read or written, a shard that is not as it was written, experts that do not make whole
/// layers, an MXFP4 weight or a tensor that the form has no place for, and a block that does not fit FP8. `output` does
/// not appear then.
[[nodiscard]] io::file_result<convert_report> convert_checkpoint(const std::string& input, const std::string& output,
                                                                 const convert_options& options);

}  // namespace mxfp4::checkpoint
