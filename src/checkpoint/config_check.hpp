// src/checkpoint/config_check.hpp -- does a quantization_config say of each module what it is stored as?
// SPDX-License-Identifier: Apache-2.0
//
// `verify` asks of a checkpoint that is there; `quantize` of its plan, before the first byte is written.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/family.hpp"
#include "mxfp4/checkpoint/plan.hpp"
#include "mxfp4/checkpoint/stored_tensor.hpp"
#include "mxfp4/checkpoint/verify.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

struct stored_module {
  std::string name;
  storage kind = storage::plain;
  weight_role role = weight_role::other;
  bool is_stack = false;  ///< of experts
  bool gpt_oss = false;   ///< MXFP4 in that form
};

/// What is wrong with a member of quantization_config, or of an object in it; empty where it is as expected.
/// @param place  of that object: "", ".config_groups.group_0".
[[nodiscard]] std::string unexpected_member(const nlohmann::ordered_json& object, const std::string& place,
                                            const char* key, const nlohmann::ordered_json& expected);

using finding_function = std::function<void(severity level, const std::string& where, const std::string& what)>;

/// @param config  the text of config.json, parsed.
void check_quantization_config(const nlohmann::ordered_json& config, const std::vector<stored_module>& modules,
                               const finding_function& add);

/// The modules of what the plan writes.
[[nodiscard]] std::vector<stored_module> modules_of(const quantization_plan& plan, std::string_view model_type);

}  // namespace mxfp4::checkpoint
