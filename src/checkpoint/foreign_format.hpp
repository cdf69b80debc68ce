// src/checkpoint/foreign_format.hpp -- weights that are quantised in a way that mxfp4 does not read.
// SPDX-License-Identifier: Apache-2.0
//
// Tensors decide, by name and type, and config.json gives the name: a command that took them for plain tensors would
// copy codes and say of the result that it is not quantised.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mxfp4/io/error.hpp"
#include "mxfp4/io/safetensors.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// What can be done with codes.
enum class codes_are : std::uint8_t {
  refused,      ///< no command reads them
  dequantized,  ///< `dequantize` makes BF16 of them
  mxfp4         ///< `dequantize` and `convert` read them
};

/// A tensor that holds codes of another format.
struct foreign_weights {
  std::string tensor;  ///< the first that no command reads, else the first; empty where there is none
  std::string format;  ///< "NVFP4 of ModelOpt; config.json calls it modelopt"
  codes_are use = codes_are::refused;
};

/// What a user does with them who wants to quantise.
[[nodiscard]] std::string way_to_weights(codes_are use);

/// @param tensors  that are no MXFP4 pair. F8_E4M3 is left out: whoever knows the block scales judges it.
/// @param config   config.json; may be null.
[[nodiscard]] foreign_weights find_foreign_weights(const std::vector<io::tensor_info>& tensors,
                                                   const nlohmann::ordered_json& config);

/// Codes that are in none of the formats above: a matrix or a stack in integers, FP8 or fewer bits under a name that
/// weights or codes have. Integers of other names are buffers (ids, masks, tables), which are no weights.
/// @param with_fp8  false where config.json goes on saying what FP8 is.
/// @return  the first of them; nullptr where there is none.
[[nodiscard]] const io::tensor_info* find_unknown_codes(const std::vector<io::tensor_info>& tensors, bool with_fp8);

/// The former, or unknown codes where those are none that no command reads: what is to be quantised has neither.
[[nodiscard]] foreign_weights find_codes(const std::vector<io::tensor_info>& tensors,
                                         const nlohmann::ordered_json& config);

/// A warning where config.json, or a file beside it, tells of a quantization that no tensor shows; empty where nothing
/// does. A result has a config of its own and leaves such files behind.
/// @param files  the names of the directory's other files.
[[nodiscard]] std::string untold_quantization(const std::vector<io::tensor_info>& tensors,
                                              const nlohmann::ordered_json& config,
                                              const std::vector<std::string>& files);

/// That a tensor is in a format which is neither MXFP4 nor widened: codes that are copied would be weights to whoever
/// reads the result.
[[nodiscard]] io::file_error not_readable(const std::string& where, const std::string& tensor,
                                          const std::string& format);

/// @throws io::file_error naming what find_unknown_codes has found.
void require_no_unknown_codes(const std::vector<io::tensor_info>& tensors, bool with_fp8, const std::string& where);

/// What is to be quantised holds weights: codes that are copied would be weights to whoever reads the new config.json.
/// @throws io::file_error naming a tensor that holds codes.
void require_weights(const std::vector<io::tensor_info>& tensors, const nlohmann::ordered_json& config,
                     const std::string& directory);

/// Files that describe a quantization, or what was lost by one, and are not true of a result of another kind.
[[nodiscard]] bool describes_quantization(const std::string& file);

/// By its name: weights in safetensors and other formats, whole or in parts, and the lists of those parts.
[[nodiscard]] bool is_weights_file(const std::string& name);

/// What is wrong with a folder that has weights in `file`, and no .safetensors file.
[[nodiscard]] io::file_error no_safetensors(const std::string& folder, const std::string& file);

}  // namespace mxfp4::checkpoint
