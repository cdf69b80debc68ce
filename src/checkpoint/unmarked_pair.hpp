// src/checkpoint/unmarked_pair.hpp -- MXFP4 whose codes go by the weight's own name: of Quark, ModelOpt, DeepSeek-V4.
// SPDX-License-Identifier: Apache-2.0
//
//   form         codes X                                  scales
//   quark        U8 [.., rows, cols / 2]                  X_scale U8 [.., rows, cols / 32], and no X_scale_2 (NVFP4)
//   deepseek_v4  P.weight I8 [.., rows, cols / 2]         P.scale F8_E8M0 [.., rows, cols / 32]
//
// The codes of even columns are the low nibbles, a scale byte is E8M0, as everywhere. Sources: Quark 0.13 and ModelOpt
// 0.47 as they export; DeepSeek-V4's published checkpoint, whose config.json has "expert_dtype": "fp4".
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/fp8_scales.hpp"
#include "checkpoint/mxfp4_weights.hpp"
#include "mxfp4/checkpoint/stored_tensor.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

struct unmarked_pair {
  weight_form form = weight_form::quark;
  const io::tensor_info* scales = nullptr;
};

/// Names, types and shapes decide: two codes a byte, one scale for 16 bytes.
[[nodiscard]] std::optional<unmarked_pair> find_unmarked_pair(const io::tensor_info& codes, const find_function& find);

/// Codes of INT4 look the same: the config of Quark has to say fp4 where it says something.
/// @param config  config.json; may be null.
/// @throws file_error for a list with weights in the form of Quark that its config says to be of another type.
void require_fp4(const std::vector<mxfp4_weight>& weights, const nlohmann::ordered_json& config,
                 const std::string& where);

}  // namespace mxfp4::checkpoint
