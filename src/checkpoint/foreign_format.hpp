// src/checkpoint/foreign_format.hpp -- weights that are quantised in a way that mxfp4 does not read.
// SPDX-License-Identifier: Apache-2.0
//
// Tensors decide, by name and type, and config.json gives the name: a command that took them for plain tensors would
// copy codes and say of the result that it is not quantised.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mxfp4/io/safetensors.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// A tensor that holds codes of another format.
struct foreign_weights {
  std::string tensor;  ///< the first of them; empty where there is none
  std::string format;  ///< "INT4 of compressed-tensors (pack-quantized)"
};

/// @param tensors  that are no MXFP4 pair. F8_E4M3 is left out: whoever knows the block scales judges it.
/// @param config   config.json; may be null.
[[nodiscard]] foreign_weights find_foreign_weights(const std::vector<io::tensor_info>& tensors,
                                                   const nlohmann::ordered_json& config);

/// Files that describe a quantization, or what was lost by one, and are not true of a result of another kind.
[[nodiscard]] bool describes_quantization(const std::string& file);

}  // namespace mxfp4::checkpoint
